"""What a rule, a waiting or a fact means, in words that somebody can read to a caller: one table, by name."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from ledger import notification as n
from ledger import preferences as p
from ledger import recipient as r
from ledger import suppression as s

Inputs = Mapping[str, str]


class Words(msgspec.Struct, frozen=True):
    """What happened, and what would have had to differ for it not to; `{names}` are those of the inputs."""

    words: str
    differently: str | None = None


# Of a rule of a newer release nobody here knows more than its name.
RAW = Words("It was decided by the rule {rule}, which this release does not know: see its inputs.")
_OTHER_DAY = "It is tried again by itself; nothing has to be done."

WORDS: Mapping[str, Words] = {
    # The rules of the policy, by the names that stand in its facts.
    "erased": Words(
        "It was not sent: the person was erased at {erased_at}, after it had been asked for.",
        "Asked for after the erasure it would have been a new beginning: what was asked for before is never sent.",
    ),
    "no_template": Words(
        "It was not sent: there were no words for it. The template {template} had no version then.",
        "A version of that template would have had to be there when it was asked for.",
    ),
    "suppressed_address": Words(
        "It was not sent: the address has been on the suppression list since {since} ({reason}).",
        "That entry would have had to be released or over by then, or the person reached at another address.",
    ),
    "no_consent": Words(
        "It was not sent: the purpose {purpose} needs the person's consent ({consent}).",
        "The person would have had to agree to that purpose before it was due.",
    ),
    "opted_out": Words(
        "It was not sent: the person has wanted nothing of {category} by {channel} since {since}.",
        "The person would have had to switch that on again before it was due. Security messages do not ask.",
    ),
    "no_usable_address": Words(
        "It was not sent: neither the message nor what is known of the person gave an address for {channel}.",
        "The message would have had to name one, or the person to be known by one.",
    ),
    "not_allowed_here": Words(
        "It was not sent: this installation may not write to that address.",
        "The address, or its domain, would have had to be on RECIPIENT_ALLOW_LIST.",
    ),
    "country_not_allowed": Words(
        "It was not sent: this installation sends no SMS to that country ({country}).",
        "The country would have had to be in SMS_COUNTRIES.",
    ),
    "frequency_cap": Words(
        "It was not sent: the person had got {used} of {category} since {since}, and at most {limit} go to one person"
        " in {window}.",
        "Fewer of that category would have had to be sent to the person before it, or its kind to allow more.",
    ),
    "ceiling": Words(
        "It was not sent: {used} of {type} had been sent to this one person since {since}, and more than {limit} in"
        " {window} are a program that has run away.",
        "Whoever asks for them would have had to ask for fewer.",
    ),
    "quiet_hours": Words(
        "It was put off until {until}: the person wants to be left alone at that time of day ({hours}, {time_zone}).",
        "The person would have had to want no quiet at that hour, or it would have had to be urgent.",
    ),
    "scheduled": Words(
        "It was put off until {until}, as it was asked for.", "It would have had to be asked for sooner."
    ),
    # What is decided beside the policy.
    "sent": Words(
        "It was let go: {source} had asked for {type} (message id: {message_id}), no rule had anything against it, and"
        " {provider} was asked to carry it at {at}, to the address {address}.",
        "A suppression of the address, a cancel or an erasure before that moment would have stopped it; and, unless it"
        " is a security message, the person's opt-out, or a consent that is missing where one is needed.",
    ),
    "restored": Words(
        "It may have been sent: the database was restored, and nothing tells what had left before that.",
    ),
    "device_skipped": Words(
        "One of the person's devices was left out ({because}).", "The device would have had to be usable then."
    ),
    "postponed": Words(
        "A try did not go through ({code}), and the provider certainly did not take it; tried again at {retry_at}.",
        _OTHER_DAY,
    ),
    "refused": Words(
        "The provider refused it for good ({code}): the address or what it says.",
        "The address or the content would have had to be one that the provider takes.",
    ),
    "in_doubt": Words(
        "It may have been sent: nothing told whether the provider had taken it ({doubt}). A report may settle that"
        " until {until}; then its kind says: {then}.",
        "The provider would have had to answer in time.",
    ),
    "resend": Words("It says once more what notification {of} said, in the same words: {by} had it sent again."),
    "sent_again": Words("It was sent again by {by}, as notification {to}: {reason}."),
    "released": Words("Somebody ({by}) let it be sent again: {reason}."),
    "render_failed": Words(
        "It was not sent: the template {template} and the data of the message do not fit ({code}).",
        "The message would have had to bring what the template needs.",
    ),
    "expired": Words(
        "It was not sent: its time was over at {expires_at} before it could be.",
        "What it waited for would have had to end before that, or it would have had to be asked for with more time.",
    ),
    "cancelled": Words(
        "It was called off by {by}: {reason}. What had left before may still have arrived.",
        "Nobody would have had to call it off.",
    ),
    "fell_back": Words(
        "The person is told by {channel} instead, by notification {to} (the first one: {because}).",
        "It would have had to be delivered in time on the first channel.",
    ),
    "fallback_dropped": Words(
        "The person was not told on another channel either ({reason}).", "That would have had to be taken up sooner."
    ),
    "failed": Words("We gave up ({reason})."),
    "failed: refused": Words(
        "It was not delivered: the provider refused it for good ({reason}).",
        "The address or the content would have had to be one that the provider takes.",
    ),
    "failed: render_failed": Words(
        "It was not sent: the template and the data of the message do not fit ({reason}).",
        "The message would have had to bring what the template needs.",
    ),
    "failed: in_doubt": Words(
        "It may have been sent, and is not sent again: nothing told whether the provider had taken it ({reason}).",
        "A report would have had to come, or somebody to release it.",
    ),
    "failed: fell_back": Words(
        "It was not delivered in time, and the person is told on another channel.",
        "It would have had to be delivered sooner.",
    ),
    "failed: no_usable_address": Words(
        "It was not sent: every device of the person was left out, see the decisions.",
        "One of the devices would have had to be usable.",
    ),
    "failed: set aside": Words(
        "It was given up: handling it ended several processes ({reason}).", "That is a fault of ours: tell operations."
    ),
    # What became of what a provider took.
    "then: dispatched": Words("It was sent: a provider has taken it, and nobody has confirmed yet that it arrived."),
    "then: delivered": Words("It was sent, and the receiving side has taken it."),
    "then: opened": Words("It was sent and arrived: it was opened, or fetched by a mail program."),
    "then: clicked": Words("It was sent and arrived: a link in it was followed."),
    "then: bounced": Words("It was sent, and the receiving side gave it back."),
    "then: complained": Words("It was sent and arrived, and was marked as spam."),
    "nothing yet": Words("Nothing has been decided yet."),
    # What it waits for, by the reasons of `waiting`.
    "waits: scheduled": Words("It waits for its time: it was asked for to be sent at {until}."),
    "waits: deferred": Words("It waits until {until}: a rule has put it off, see the decisions."),
    "waits: paused": Words("It waits: sending of it is paused. It goes on when the pause ends."),
    "waits: being_handled": Words("It is being sent at this moment."),
    "waits: provider_shut": Words("It waits: its provider cannot be called just now. It is tried by itself."),
    "waits: rate": Words("It waits for its turn: as much is being sent as the provider takes."),
    "waits: spend_cap": Words("It waits until {until}: what may be spent in a day is spent."),
    "waits: answer": Words("It was handed over; the provider is asked again what became of it."),
    "waits: trouble": Words("It waits until {until}: something of ours went wrong, and it is tried again by itself."),
    "waits: unreadable": Words("It waits: its data cannot be read by this release, or a data key is missing."),
    "waits: turn": Words("It waits for its turn."),
}


class _Given(dict[str, str]):
    """Inputs, where a name that a release before did not write is unknown."""

    def __missing__(self, name: str) -> str:
        return "unknown"


def said(name: str, inputs: Inputs) -> Words:
    """Return the words of a rule or a waiting, filled in; those of one that this release does not know name it."""
    words, given = _words(name), _Given({key: _as_read(value) for key, value in inputs.items()}, rule=name)
    differently = words.differently.format_map(given) if words.differently is not None else None
    return Words(words.words.format_map(given), differently)


def _words(name: str) -> Words:
    """Return the words of the longest name that this one begins with: a reason goes on with a code, or a number."""
    begun = [known for known in WORDS if name == known or name.startswith((f"{known}:", f"{known} "))]
    return WORDS[max(begun, key=len)] if begun else RAW


def _as_read(value: str) -> str:
    """Return an input as people read it: rules write their times as programs do."""
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return value
    return moment(at.astimezone(UTC)) if at.utcoffset() is not None else value


def moment(at: datetime | None) -> str:
    """Return a time as people read it."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC" if at is not None else "a time that nobody can say"


def says(fact: n.Fact) -> str:
    """Return what a fact of another stream says, without a word of who anybody is."""
    for kind, words in _SAYS.items():
        if isinstance(fact, kind):
            return words(fact)
    return f"What is known of the person changed at {moment(fact.recorded_at)}."


def _listed(fact: s.Listed) -> str:
    about = f" for {fact.category}" if fact.category else ""
    until = f" until {moment(fact.expires_at)}" if fact.expires_at else ""
    of = f", because of notification {fact.notification}" if fact.notification else ""
    note = f": {fact.note}" if fact.note else ""
    return f"The address was listed{about} at {moment(fact.recorded_at)}{until} ({fact.reason}){of}{note}."


def _consent(fact: p.ConsentChanged) -> str:
    wording = f", wording {fact.wording}" if fact.wording else ""
    where = f", at {fact.where}" if fact.where else ""
    given = "given" if fact.granted else "withdrawn"
    return f"Consent to {fact.purpose} was {given} at {moment(fact.said_at)}{wording}{where}."


def _choices(fact: p.PreferencesChanged) -> str:
    choices = (f"{one.category} by {one.channel} {'on' if one.enabled else 'off'}" for one in fact.choices)
    return f"The person chose at {moment(fact.said_at)}: {', '.join(choices)}."


def _quiet(fact: p.QuietHoursChanged) -> str:
    quiet = f"from {fact.quiet.start:%H:%M} to {fact.quiet.end:%H:%M}" if fact.quiet else "at no time"
    return f"The person wants to be left alone {quiet}, said at {moment(fact.said_at)}."


def _reported(fact: n.Reported) -> str:
    codes = ", ".join(f"{name} {value}" for name, value in sorted(fact.evidence.items()))
    at = moment(fact.occurred_at or fact.recorded_at)
    return f"The provider reported {type(fact).__name__.lower()} at {at}{f': {codes}' if codes else ''}."


_SAYS: Mapping[type[n.Fact], Callable[[Any], str]] = {
    s.Listed: _listed,
    s.Delisted: lambda fact: f"The entry {fact.reason} was released: {fact.note}.",
    p.ConsentChanged: _consent,
    p.PreferencesChanged: _choices,
    p.QuietHoursChanged: _quiet,
    r.Erased: lambda fact: f"The person was erased: {fact.reason}.",
    n.Reported: _reported,
    n.AttemptFailed: lambda fact: f"The provider refused it at {moment(fact.recorded_at)}: {fact.code}.",
}
