"""Whether the address of a notification is on the suppression list, as the policy asks it."""

from ledger.ledger import Loaded
from ledger.suppression import Entry


def listed_for(loaded: Loaded) -> Entry | None:
    """Return what is on the list against sending a notification to its address; None when nothing is."""
    known = loaded.suppression
    return known.against(loaded.state.requested.category, loaded.now()) if known is not None else None
