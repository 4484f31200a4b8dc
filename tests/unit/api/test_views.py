"""How a notification is shown, made of its state alone."""

from api import views
from ledger.values import Accepted, Personal
from tests.unit.ledger.samples import FIRST, SECOND, STREAM, sending, settled
from tests.unit.ledger.test_devices import PHONE, TABLET, next_to, pushing


def test_an_attempt_of_a_push_names_its_device_by_the_id_that_the_persons_devices_are_listed_under():
    state = next_to(settled(pushing(), Accepted("1")), TABLET, SECOND)
    shown = views.notification(STREAM, state, Personal(), unmasked=False)
    assert [(tried.id, tried.device) for tried in shown.attempts] == [(FIRST, PHONE), (SECOND, TABLET)]


def test_an_attempt_of_another_channel_names_no_device():
    (tried,) = views.notification(STREAM, sending(), Personal(), unmasked=False).attempts
    assert tried.device is None
