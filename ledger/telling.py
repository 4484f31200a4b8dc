"""What became of a notification, in words for somebody who has never read this code."""

from collections import defaultdict
from itertools import pairwise

from ledger.notification import RESTORED, Attempt, State
from ledger.status import Evidence

_TIMES = {2: "twice", 3: "three times"}
_NOT_TAKEN = frozenset({Evidence.SENDING, Evidence.REFUSED})


def sent_twice(state: State) -> str | None:
    """Say that the person may have got it more than once, and why; None where they cannot have."""
    by_address: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in state.attempts:
        if attempt.evidence not in _NOT_TAKEN:
            by_address[attempt.address_hash].append(attempt)
    told = [_told(attempts) for attempts in by_address.values() if len(attempts) > 1]
    return " ".join(told) or None


def _told(attempts: list[Attempt]) -> str:
    certain = all(attempt.evidence is not Evidence.IN_DOUBT for attempt in attempts)
    how_often = _TIMES.get(len(attempts), f"{len(attempts)} times")
    doubts = " ".join(_doubt(attempt, again) for attempt, again in pairwise(attempts))
    return f"{'Was' if certain else 'May have been'} sent {how_often}. {doubts}"


def _doubt(attempt: Attempt, again: Attempt) -> str:
    if attempt.code == RESTORED:
        return (
            f"The database was restored, and nothing tells whether it had been sent before"
            f" {attempt.started_at:%Y-%m-%d %H:%M:%S} UTC; it was sent at {again.started_at:%H:%M:%S}"
            f" by {again.provider}."
        )
    return (
        f"Nothing told whether {attempt.provider} had taken the attempt of {attempt.started_at:%Y-%m-%d %H:%M:%S} UTC"
        f" ({attempt.code or 'no outcome'}), so it was sent again at {again.started_at:%H:%M:%S} by {again.provider}."
    )
