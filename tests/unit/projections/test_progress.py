"""A notification is folded over several batches: what a batch leaves behind is all that its status rests on."""

import pytest

from ledger import notification as n
from ledger.values import Accepted, InDoubt, Postponed, Refused
from projections import notification_log as log
from tests.unit.ledger.samples import at, given, intent, origin, requested, sending, settled, then


def put_off() -> n.State:
    state = given(requested())
    return then(state, n.defer(state, at(60), ("quiet_hours", "p", {}), origin()))


def put_off_and_rendered() -> n.State:
    """What was put off, when the intent after that is parted from its words by the end of a batch."""
    rendered, _ = n.start_attempt(put_off(), intent(deadline=70), origin(60))
    return then(put_off(), (rendered,))


STATES = {
    "requested": given(requested()),
    "put off": put_off(),
    "put off and rendered": put_off_and_rendered(),
    "cancelled": then(given(requested()), n.cancel(given(requested()), "a test", origin(1))),
    "sending": sending(),
    "dispatched": settled(sending(), Accepted("ref-1")),
    "in doubt": settled(sending(), InDoubt("timeout")),
    "refused": settled(sending(), Refused("bad")),
    "postponed": settled(sending(), Postponed("later")),
}


@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
def test_i11_what_is_kept_between_batches_gives_the_same_status(state: n.State):
    kept = log._decode(log._encode(log._Progress(*(getattr(state, name) for name in log._Progress.__struct_fields__))))
    assert log._state(kept).status is state.status
