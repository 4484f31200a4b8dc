"""An item whose delivery ends the process: it is given up, and takes no other with it."""

from ledger.status import Status
from providers.fakes.ses import FakeSes
from tests.acceptance.audit import Audit
from tests.acceptance.taking import take_in
from tests.acceptance.traffic import message, shipped
from tests.support.postgres import Database
from tests.support.service import WORKER, Process, Service, until

KILLER = "GrimReaper"
CRASHES = 5
HANDLED = {Status.DISPATCHED, Status.IN_DOUBT}


async def test_i15_an_item_that_kills_is_set_aside_after_five_crashes_and_takes_no_healthy_one_with_it(
    service: Service, database: Database, fake: FakeSes
):
    # The killer is the first in the agenda: whatever is claimed with it, or behind it, is in danger.
    await take_in(database.url, [message("OrderShippedEvent", firstName=KILLER)])
    healthy = shipped(12)
    await take_in(database.url, healthy)
    crashes = 0
    while await _dies(_deliver(service), database):
        crashes += 1
    assert crashes == CRASHES
    audit = Audit(database.url, fake.requests)
    statuses = audit.statuses()
    assert statuses.pop(Status.FAILED) == 1
    assert statuses.total() == len(healthy)
    # A request that was under way at a crash may have been taken: it is in doubt, and nothing worse.
    assert statuses[Status.DISPATCHED] <= len(fake.requests) <= len(healthy)
    assert set(statuses) <= HANDLED
    assert audit.violations() == []


def _deliver(service: Service) -> Process:
    return service.launch("deliver", "--killer", KILLER, "--lease", "4", "--deadline", "1", program=WORKER)


async def _dies(worker: Process, database: Database) -> bool:
    """Wait for its end, or for the end of all notifications: then it lives."""

    def all_ended() -> bool:
        return set(Audit(database.url, []).statuses()) <= {Status.FAILED, *HANDLED}

    await until(lambda: not worker.lives() or all_ended(), "its death, or everybody's end")
    return not worker.lives()
