"""What became of a notification, in one sentence for a caller, and how sure that is."""

from collections.abc import Callable, Mapping
from datetime import datetime
from enum import StrEnum

import msgspec

from ledger.notification import Attempt, State
from ledger.plain_words import moment
from ledger.status import PRECEDENCE, Evidence, Status
from ledger.values import Channel


class Sure(StrEnum):
    """How sure it is: known for certain, shown by evidence that can deceive, still open, or not to be found out."""

    CERTAIN = "certain"
    LIKELY = "likely"
    OPEN = "open"
    UNKNOWN = "unknown"


class Verdict(msgspec.Struct, frozen=True):
    """The sentence, how sure it is, and what that rests on."""

    words: str
    sure: Sure
    because: str


_RECEIVER = {
    Channel.EMAIL: "the mail server",
    Channel.SMS: "the phone, as its network says,",
    Channel.PUSH: "the device, as the app on it says,",
}
_TAKEN = {
    Channel.EMAIL: "The receiving mail server has said that it took it. Whether it put it into the inbox or among spam "
    "nobody tells us.",
    Channel.SMS: "The network has said so. Whether it was read nobody tells us.",
    Channel.PUSH: "The app has said so. Whether it was read nobody tells us.",
}
_PROXY = (
    "Mail programs and their servers fetch pictures by themselves: that it was opened is evidence, not proof that "
    "somebody read it."
)
_SCANNER = "Programs that look for harmful links follow them, too: this is strong evidence, not proof that it was read."
_SPAM = "The mail provider has told us so: it was there, and somebody, or a program of theirs, called it spam."


def verdict(state: State, answer: str) -> Verdict:
    """Return the verdict on a notification; `answer` is that of its explanation: why it was not sent, or waits."""
    best = max(state.attempts, key=lambda one: PRECEDENCE[one.evidence], default=None)
    if state.status is Status.IN_DOUBT or (state.ended is not None and _may_have_left(state)):
        return Verdict(
            _in_doubt(state, answer), Sure.UNKNOWN, "Nothing tells whether the provider took it. Ask the person."
        )
    if best is not None and best.evidence.value == state.status.value and state.status in _REACHED:
        return _REACHED[state.status](best, state.requested.channel)
    if state.ended is not None:
        return Verdict(answer, Sure.CERTAIN, "We decided it ourselves, and nothing was taken by a provider.")
    return Verdict(answer, Sure.OPEN, "It is not over: look again later.")


def _may_have_left(state: State) -> bool:
    """Whether it ended, and yet an attempt of it may have gone out."""
    open_ones = {Evidence.IN_DOUBT, Evidence.SENDING}
    return not state.reached and any(attempt.evidence in open_ones for attempt in state.attempts)


def _in_doubt(state: State, answer: str) -> str:
    doubtful = [one for one in state.attempts if one.evidence in {Evidence.IN_DOUBT, Evidence.SENDING}]
    last = doubtful[-1]
    words = f"It may have been sent at {moment(last.started_at)}: nothing told whether {last.provider} had taken it."
    return f"{words} {answer}" if state.ended is not None else words


def _dispatched(attempt: Attempt, _: Channel) -> Verdict:
    words = (
        f"Handed over to {attempt.provider} at {moment(attempt.dispatched_at)}; nobody has confirmed that it arrived."
    )
    because = "The provider has said that it took it. That it arrived is likely, and not known."
    return Verdict(words, Sure.OPEN, because)


def _delivered(attempt: Attempt, channel: Channel) -> Verdict:
    return Verdict(f"{_arrival(attempt, channel)}.", Sure.CERTAIN, _TAKEN[channel])


def _opened(attempt: Attempt, channel: Channel) -> Verdict:
    at = _when(attempt.first_opened_at)
    return Verdict(f"{_arrival(attempt, channel)}; opened{at}, or fetched by a mail program.", Sure.LIKELY, _PROXY)


def _clicked(attempt: Attempt, channel: Channel) -> Verdict:
    at = _when(attempt.first_clicked_at)
    return Verdict(f"{_arrival(attempt, channel)}; a link in it was followed{at}.", Sure.LIKELY, _SCANNER)


def _complained(attempt: Attempt, channel: Channel) -> Verdict:
    return Verdict(f"{_arrival(attempt, channel)}, and was marked as spam.", Sure.CERTAIN, _SPAM)


def _bounced(attempt: Attempt, channel: Channel) -> Verdict:
    words = f"Sent{_when(attempt.dispatched_at or attempt.started_at)}, and given back: it did not arrive."
    who = "The receiving mail server" if channel is Channel.EMAIL else "The network"
    return Verdict(words, Sure.CERTAIN, f"{who} has said so: see what it answered, below.")


def _arrival(attempt: Attempt, channel: Channel) -> str:
    """Say when it arrived, as far as anybody has said: an open may be reported where a delivery never was."""
    if attempt.delivered_at is not None:
        return f"Delivered to {_RECEIVER[channel]} at {moment(attempt.delivered_at)}"
    return f"Sent{_when(attempt.dispatched_at or attempt.started_at)}, and it arrived"


def _when(at: datetime | None) -> str:
    return "" if at is None else f" at {moment(at)}"


_REACHED: Mapping[Status, Callable[[Attempt, Channel], Verdict]] = {
    Status.DISPATCHED: _dispatched,
    Status.DELIVERED: _delivered,
    Status.OPENED: _opened,
    Status.CLICKED: _clicked,
    Status.COMPLAINED: _complained,
    Status.BOUNCED: _bounced,
}
