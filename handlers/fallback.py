"""The notification that another channel's takes the place of: what is asked for then."""

from ledger import notification
from ledger.keys import Identity
from ledger.ledger import Loaded
from ledger.notification import FellBack, Requested


def requested_instead(identity: Identity, current: Loaded, fell_back: FellBack) -> Requested:
    """Return the request of the notification that a fallback begins. Raises KeyMissingError."""
    requested, personal = current.state.requested, current.personal
    address = personal.fallback_address
    return notification.request_instead(
        current.state,
        current.stream,
        fell_back,
        personal,
        recipient=identity.recipient(requested.user_id, address),
        address_hash=identity.address_hash(address) if address else None,
    )
