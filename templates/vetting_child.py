"""The process in which one draft is examined: it limits itself, reads the draft, says where it is and what it found."""

import resource
import signal
import sys

import msgspec

from templates.drafts import Draft
from templates.examining import examine

# It takes 60 MB for the largest template of ours.
MEMORY = 128 * 1024 * 1024
# Seconds of processor time for the draft, after which the kernel ends the process; and for all, should that fail.
PROCESSOR = 1.0
PROCESSOR_AT_ALL = 5


def main() -> None:
    for kind, limits in (
        (resource.RLIMIT_CPU, (PROCESSOR_AT_ALL, PROCESSOR_AT_ALL)),
        (resource.RLIMIT_AS, (MEMORY, MEMORY)),
        (resource.RLIMIT_FSIZE, (0, 0)),
        (resource.RLIMIT_CORE, (0, 0)),
    ):
        resource.setrlimit(kind, limits)
    signal.setitimer(signal.ITIMER_PROF, PROCESSOR)
    draft = msgspec.json.decode(sys.stdin.buffer.read(), type=Draft)
    _tell(examine(draft, at=_tell))


def _tell(what: object) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(what) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
