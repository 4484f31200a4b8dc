"""What happened to a notification, fact by fact, in sentences for somebody who has never read this code."""

from collections.abc import Callable, Mapping
from typing import Any

from ledger import notification as n
from ledger.plain_words import moment, said

# So much of a version tells it from the others; the whole of it stands beside the facts.
_SHOWN = 12
_BECAUSE = {
    "first": "The first try",
    "retry": "Another try",
    "failover": "Another try, by another provider",
    "next_device": "A try at another device of the person",
    "resend_after_doubt": "Another try, since nothing told whether the one before had gone through",
}


def happened(fact: n.Fact) -> str:
    """Return what a fact says; of one that this release does not know, that alone. Says nothing of who anybody is."""
    telling = _TELLS.get(type(fact))
    return telling(fact) if telling is not None else "Something that this release does not know."


def _requested(fact: n.Requested) -> str:
    asked = f"{fact.source} asked for {fact.type} by {_BY[fact.channel.value]}"
    when = f", to be sent at {moment(fact.send_at)}" if fact.send_at is not None else ""
    instead = f", in the place of notification {fact.fallback_of}" if fact.fallback_of is not None else ""
    again = f", as a resend of notification {fact.resend_of}" if fact.resend_of is not None else ""
    return f"{asked}{when}{instead}{again}. It is good until {moment(fact.expires_at)}."


def _suppressed(fact: n.Suppressed) -> str:
    return said(fact.rule, fact.inputs).words


def _deferred(fact: n.Deferred) -> str:
    return said(fact.rule, {**fact.inputs, "until": moment(fact.until)}).words


def _rendered(fact: n.Rendered) -> str:
    others = f"; {', '.join(fact.passed_over)} would have been nearer, and is not there" if fact.passed_over else ""
    version = fact.template_version[:_SHOWN]
    return f"The words were made: template {fact.template}, version {version}, in {fact.locale}{others}."


def _started(fact: n.AttemptStarted) -> str:
    if fact.because == n.RESTORED:
        return said("restored", {}).words
    what = _BECAUSE.get(fact.because, fact.because)
    return f"{what}: {fact.provider} was asked to carry it, by {moment(fact.deadline_at)} at the latest."


def _failed_attempt(fact: n.AttemptFailed) -> str:
    return said(fact.kind, {"code": fact.code, "retry_at": moment(fact.retry_at)}).words


def _doubt(fact: n.AttemptInDoubt) -> str:
    return (
        f"Nothing told whether the provider had taken it ({fact.doubt}). A report may settle that until"
        f" {moment(fact.until)}."
    )


def _inquired(fact: n.Inquired) -> str:
    again = f" It is asked again at {moment(fact.again_at)}." if fact.again_at is not None else ""
    return f"The provider was asked what became of it, and said: {fact.answer}.{again}"


def _fell_back(fact: n.FellBack) -> str:
    return said("fell_back", {"channel": _BY[fact.channel.value], "to": str(fact.to), "because": fact.reason}).words


def _reported(words: str) -> Callable[[n.Reported], str]:
    def told(fact: n.Reported) -> str:
        codes = ", ".join(f"{name} {value}" for name, value in sorted(fact.evidence.items()))
        at = f" It happened at {moment(fact.occurred_at)}." if fact.occurred_at is not None else ""
        return f"{words}{at}{f' The provider says: {codes}.' if codes else ''}"

    return told


_BY = {"email": "e-mail", "sms": "SMS", "push": "push"}
_TELLS: Mapping[type[n.Fact], Callable[[Any], str]] = {
    n.Requested: _requested,
    n.Suppressed: _suppressed,
    n.Deferred: _deferred,
    n.Rendered: _rendered,
    n.RenderFailed: lambda fact: said("render_failed", {"code": fact.code, "template": fact.template}).words,
    n.AttemptStarted: _started,
    n.DeviceSkipped: lambda fact: said("device_skipped", {"because": fact.rule}).words,
    n.Dispatched: lambda fact: f"{fact.provider} took it, and calls it {fact.reference}.",
    n.AttemptFailed: _failed_attempt,
    n.AttemptInDoubt: _doubt,
    n.Released: lambda fact: said("released", {"by": fact.by, "reason": fact.reason}).words,
    n.Failed: lambda fact: said(f"failed: {fact.reason}", {"reason": fact.reason}).words,
    n.Expired: lambda _: "Its time was over before it could be sent.",
    n.Cancelled: lambda fact: said("cancelled", {"by": fact.by, "reason": fact.reason}).words,
    n.Inquired: _inquired,
    n.FellBack: _fell_back,
    n.SentAgain: lambda fact: said("sent_again", {"by": fact.by, "to": str(fact.to), "reason": fact.reason}).words,
    n.FallbackDropped: lambda fact: said("fallback_dropped", {"reason": fact.reason}).words,
    n.Delayed: _reported("The provider has it, and is still trying."),
    n.Delivered: _reported("The receiving side took it."),
    n.Bounced: _reported("The receiving side gave it back."),
    n.Rejected: _reported("The provider took it, and then would not send it."),
    n.Complained: _reported("It was marked as spam."),
    n.Opened: _reported("It was opened, or fetched by a mail program."),
    n.Clicked: _reported("A link in it was followed."),
    n.Unsubscribed: _reported("The person wants no more of this category."),
}
