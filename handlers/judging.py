"""What the policy makes of a notification as it was read."""

from datetime import datetime

from ledger.ledger import Loaded
from ledger.policy import AllowList, Considered, Verdict, judge
from ledger.values import Channel
from templates.addresses import country_of


def judged(loaded: Loaded, allowed: AllowList, now: datetime) -> Verdict:
    """Apply the policy to a notification, its person and the address that it goes to.

    Raises KeyMissingError where nobody can read what the message said, and no erasure is why.
    """
    loaded.check_readable()
    person, requested = loaded.person, loaded.state.requested
    # To tell the country of a number takes as long as all the rules together.
    asked = requested.channel is Channel.SMS and not allowed.any_country
    considered = Considered(
        requested=requested,
        recipient=loaded.recipient,
        address=person.address,
        suppression=loaded.suppressions.get(person.address_hash or ""),
        country=country_of(person.address or "") if asked else None,
        allowed=allowed,
        now=now,
    )
    return judge(considered)
