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


class Went(StrEnum):
    """How it went, for the person."""

    ARRIVED = "arrived"
    SPAM = "spam"
    LOST = "lost"
    NOT_SENT = "not_sent"
    WAITING = "waiting"
    HANDED_OVER = "handed_over"
    UNKNOWN = "unknown"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The sentence, how it went, how sure that is, what it rests on, and what to do now."""

    words: str
    went: Went
    sure: Sure
    because: str
    to_do: str


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
_APP = "The app has said so. Who held the device then nobody tells us."
_SCANNER = "Programs that look for harmful links follow them, too: this is strong evidence, not proof that it was read."
_GONE = "If it is gone, send it again, where that is offered below."
_LOOK = {
    Channel.EMAIL: f"Ask them to look into the spam folder. {_GONE}",
    Channel.SMS: f"Ask whether that phone is at hand, and has room for messages. {_GONE}",
    Channel.PUSH: f"Ask whether that device may show what the app has to say. {_GONE}",
}
_WAIT = "Look again later, or call it off where it should not go."
_LATER = "Look again in a few minutes: its report may still come."
_CORRECT = (
    "Ask whether the address or number is right. Nothing more is sent to one that was given back for good, unless "
    "somebody takes it off the suppression list."
)
_UNLIST = "Nothing more is sent to that address. If they want mails again, it has to be taken off the suppression list."
_ASK = (
    "Ask them whether it came. A report may still settle it; what is held waits until somebody releases it or calls it "
    "off."
)
_ASK_ONLY = "Ask them whether it came. If it did not, send it again, where that is offered below."
_CHANGE = "Tell them why. When what stood in the way is gone, send it again, where that is offered below."
_SPAM = "The mail provider has told us so: it was there, and somebody, or a program of theirs, called it spam."


def verdict(state: State, answer: str) -> Verdict:
    """Return the verdict on a notification; `answer` is that of its explanation: why it was not sent, or waits."""
    best = max(state.attempts, key=lambda one: PRECEDENCE[one.evidence], default=None)
    if state.status is Status.IN_DOUBT or (state.ended is not None and _may_have_left(state)):
        return Verdict(
            words=_in_doubt(state, answer),
            went=Went.UNKNOWN,
            sure=Sure.UNKNOWN,
            because="Nothing tells whether the provider took it.",
            to_do=_ASK if state.ended is None else _ASK_ONLY,
        )
    if best is not None and best.evidence.value == state.status.value and state.status in _REACHED:
        return _REACHED[state.status](best, state.requested.channel)
    if state.ended is not None:
        because = "No provider has taken it." if state.attempts else "No provider was asked to carry it."
        return Verdict(words=answer, went=Went.NOT_SENT, sure=Sure.CERTAIN, because=because, to_do=_CHANGE)
    return Verdict(words=answer, went=Went.WAITING, sure=Sure.OPEN, because="It is not over.", to_do=_WAIT)


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
    return Verdict(words=words, went=Went.HANDED_OVER, sure=Sure.OPEN, because=because, to_do=_LATER)


def _delivered(attempt: Attempt, channel: Channel) -> Verdict:
    words = f"{_arrival(attempt, channel)}."
    return Verdict(words=words, went=Went.ARRIVED, sure=Sure.CERTAIN, because=_TAKEN[channel], to_do=_LOOK[channel])


def _opened(attempt: Attempt, channel: Channel) -> Verdict:
    by_a_program, because = (", or fetched by a mail program", _PROXY) if channel is Channel.EMAIL else ("", _APP)
    words = f"{_arrival(attempt, channel)}; opened{_when(attempt.first_opened_at)}{by_a_program}."
    return Verdict(words=words, went=Went.ARRIVED, sure=Sure.LIKELY, because=because, to_do=_LOOK[channel])


def _clicked(attempt: Attempt, channel: Channel) -> Verdict:
    words = f"{_arrival(attempt, channel)}; a link in it was followed{_when(attempt.first_clicked_at)}."
    return Verdict(words=words, went=Went.ARRIVED, sure=Sure.LIKELY, because=_SCANNER, to_do=_LOOK[channel])


def _complained(attempt: Attempt, channel: Channel) -> Verdict:
    words = f"{_arrival(attempt, channel)}, and was marked as spam."
    return Verdict(words=words, went=Went.SPAM, sure=Sure.CERTAIN, because=_SPAM, to_do=_UNLIST)


def _bounced(attempt: Attempt, channel: Channel) -> Verdict:
    words = f"Sent{_when(attempt.dispatched_at or attempt.started_at)}, and given back: it did not arrive."
    who = "The receiving mail server" if channel is Channel.EMAIL else "The network"
    because = f"{who} has said so: what it answered stands below, under what happened."
    return Verdict(words=words, went=Went.LOST, sure=Sure.CERTAIN, because=because, to_do=_CORRECT)


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
