"""What stands between "requested" and the end: the statuses, and the named policy that derives one from the facts."""

from enum import StrEnum


class Status(StrEnum):
    """Where a notification stands, in the words that people and programs outside read."""

    REQUESTED = "requested"
    DEFERRED = "deferred"
    SUPPRESSED = "suppressed"
    RENDERED = "rendered"
    SENDING = "sending"
    IN_DOUBT = "in_doubt"
    DISPATCHED = "dispatched"
    DELIVERED = "delivered"
    OPENED = "opened"
    CLICKED = "clicked"
    BOUNCED = "bounced"
    COMPLAINED = "complained"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class Evidence(StrEnum):
    """What is known of one attempt; stronger evidence never yields to weaker, whatever the order of arrival."""

    SENDING = "sending"
    IN_DOUBT = "in_doubt"
    REFUSED = "refused"
    DISPATCHED = "dispatched"
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    OPENED = "opened"
    CLICKED = "clicked"
    COMPLAINED = "complained"


# Within one attempt. Two arrows look odd, and both happen: a mail that was delivered bounces later (the receiving
# server took it and could not hand it on), and one that bounced is opened (a secondary server delivered it after all).
STRENGTH = {evidence: rank for rank, evidence in enumerate(Evidence)}

# Over all attempts the best for the person wins: one copy that arrived outweighs another that bounced.
_BEST_FOR_THE_PERSON: tuple[frozenset[str], ...] = (
    frozenset({Evidence.REFUSED}),
    frozenset({Evidence.BOUNCED}),
    frozenset({Evidence.IN_DOUBT}),
    frozenset({Evidence.SENDING}),
    frozenset({Status.FAILED, Status.EXPIRED, Status.CANCELLED, Status.SUPPRESSED}),
    frozenset({Evidence.DISPATCHED}),
    frozenset({Evidence.DELIVERED}),
    frozenset({Evidence.OPENED}),
    frozenset({Evidence.CLICKED}),
    frozenset({Evidence.COMPLAINED}),
)
PRECEDENCE = {word: rank for rank, words in enumerate(_BEST_FOR_THE_PERSON) for word in words}


def strongest_evidence(
    attempts: list[Evidence], *, ended: Status | None, rendered: bool, deferred: bool = False
) -> Status:
    """Derive the status by the policy `strongest-evidence`: the best for the person over all attempts and endings.

    `ended` is how we gave up, if we did; `deferred` = a rule lets it wait. A refused attempt that is not the end waits
    for the next: deferred.
    """
    known: list[str] = [*attempts, ended] if ended else [*attempts]
    if not known:
        if deferred:
            return Status.DEFERRED
        return Status.RENDERED if rendered else Status.REQUESTED
    best = max(known, key=PRECEDENCE.__getitem__)
    return Status.DEFERRED if best == Evidence.REFUSED else Status(best)
