"""Every view that there is: `project` keeps them, `maintain` measures and tends them, and `api` answers from them."""

from datetime import timedelta

from ledger.follower import PACE, View
from projections.costs import Costs
from projections.delivery_statistics import DeliveryStatistics
from projections.notification_log import NotificationLog
from projections.suppressions import Suppressions

# What is counted need not be there at once: of most notifications, all facts then come in one batch, and cost once.
_COUNTED = timedelta(seconds=1)


def all_views() -> tuple[View, ...]:
    """Return the views, made anew: one may remember how far its tables are."""
    return (NotificationLog(), Suppressions(), DeliveryStatistics(), Costs())


def pace_of(view: View) -> timedelta:
    """Return the least time between two batches of a view's follower that were not full."""
    return _COUNTED if view.name in {DeliveryStatistics.name, Costs.name} else PACE
