from typing import Any

import pytest

from handlers import broker

FIT: dict[str, Any] = {"product": "RabbitMQ", "version": "3.13.7", "capabilities": {"publisher_confirms": True}}


@pytest.mark.parametrize("version", ["3.10.0", "3.13.7", "4.1.0", "4.2.0-rc.1"])
def test_a_rabbitmq_that_is_new_enough_will_do(version: str):
    assert broker.faults(FIT | {"version": version}) == []


@pytest.mark.parametrize("version", ["3.9.29", "3.8", "2.10", "", "unknown"])
def test_one_that_is_too_old_or_does_not_say_will_not(version: str):
    (fault,) = broker.faults(FIT | {"version": version})
    assert "3.10 is the oldest" in fault


def test_another_product_that_confirms_nothing_is_told_both():
    assert len(broker.faults({"product": "LavinMQ", "version": "2.1"})) == 2
    assert len(broker.faults({})) == 2
