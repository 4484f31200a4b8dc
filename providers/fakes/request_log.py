"""The request log of the fakes: what came in, in order; the oracle for "never sent twice"."""

from collections import deque
from pathlib import Path
from typing import Any, BinaryIO, Generic, Protocol, TypeVar

import msgspec


class Request(Protocol):
    """What a fake keeps of a request. `number` counts from 1; `reports` = the fake tells what became of it."""

    number: int

    @property
    def reports(self) -> bool: ...

    def forget(self) -> None: ...


Kept = TypeVar("Kept", bound=Request)


class Settled(msgspec.Struct, tag="settled"):
    """Written when every event of a request was taken by the subscriber."""

    number: int


class RequestLog(Generic[Kept]):
    """The requests, in memory and, with a path, in a file of JSON lines that outlives the process.

    `kind` is their type, a tagged struct; of those beyond the last `keep` only what is small stays in memory.
    """

    def __init__(self, kind: type[Kept], path: Path | None = None, *, keep: int | None = None) -> None:
        self.requests: list[Kept] = []
        self.unsettled: list[Kept] = []
        self._kind = kind
        self._keep = keep
        self._whole: deque[Kept] = deque()
        self._file: BinaryIO | None = None
        if path is not None:
            self._load(path)
            self._file = path.open("ab", buffering=0)

    def add(self, request: Kept) -> None:
        self._write(request)
        self._remember(request)

    def settle(self, request: Kept) -> None:
        self._write(Settled(request.number))

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _remember(self, request: Kept) -> None:
        self.requests.append(request)
        if self._keep is not None:
            self._whole.append(request)
            if len(self._whole) > self._keep:
                self._whole.popleft().forget()

    def _write(self, line: Kept | Settled) -> None:
        if self._file is not None:
            self._file.write(msgspec.json.encode(line) + b"\n")

    def _load(self, path: Path) -> None:
        if not path.exists():
            return
        whole, _, torn = path.read_bytes().rpartition(b"\n")
        if torn:
            # The process was killed in the middle of a line; nobody was answered for it.
            path.write_bytes(whole + b"\n" if whole else b"")
        settled = set()
        kinds: Any = self._kind | Settled
        for line in msgspec.json.Decoder(kinds).decode_lines(whole):
            if isinstance(line, Settled):
                settled.add(line.number)
            else:
                self._remember(line)
        self.unsettled = [request for request in self.requests if request.reports and request.number not in settled]
