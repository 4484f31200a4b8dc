"""The statistics page over a socket: charts with their numbers, for a range and for what is asked for alone."""

import pytest

from projections.costs import Costs
from projections.delivery_statistics import DeliveryStatistics
from tests.integration.api.conftest import Service
from tests.integration.api.console.browser import Browser
from tests.integration.api.console.lists import bring_up_to_date
from tests.integration.api.deliveries import posted, sent
from tests.support.postgres import Database


@pytest.fixture
async def counted(service: Service, database: Database) -> None:
    """Two notifications, one of which has left, are counted."""
    await sent(service.ledger, await posted(service.client))
    await posted(service.client)
    await bring_up_to_date(service, database, DeliveryStatistics(), Costs())


async def test_what_became_of_notifications_is_drawn_and_told_in_numbers(browser: Browser, counted: None):
    await browser.sign_in("notifications:read")

    await browser.get("/console/statistics?last=day&channel=email&type=&from=&to=")

    assert "Asked for 2 100.0 % Tried 1 50.0 % Taken by a provider 1 50.0 %" in browser.text
    assert "email ses 1 0 no estimate" in browser.text
    assert browser.page.count('role="img"') == 4
    assert " style=" not in browser.page
    assert "The numbers of “Notifications by outcome”" in browser.text

    await browser.get("/console/statistics?last=quarter&provider=%3Cscript%3Ealert(1)%3C/script%3E")
    assert "No notification was asked for in that time" in browser.text
    assert "<script>alert" not in browser.page


async def test_a_range_stays_in_the_form_when_something_else_of_it_is_changed(browser: Browser, counted: None):
    await browser.sign_in("notifications:read")
    await browser.get("/console/statistics?last=day&from=2026-11-20T09:00&to=2026-11-21T10:30")
    assert 'name="from" type="datetime-local" value="2026-11-20T09:00"' in browser.page
    assert 'name="to" type="datetime-local" value="2026-11-21T10:30"' in browser.page


async def test_a_range_that_makes_no_sense_is_said_on_a_page(browser: Browser):
    await browser.sign_in("notifications:read")
    for query in (
        "last=year",
        "channel=owl",
        "from=2026-11-20T09:00&to=2026-11-19T09:00",
        "from=2020-01-01T00:00&to=2026-01-01T00:00",
        "to=9999-12-31T23:59",
        "to=0001-01-01T00:00&last=quarter",
        "from=yesterday",
        "nonsense=1&nonsense=2",
    ):
        answer = await browser.get(f"/console/statistics?{query}")
        assert answer.status_code == 400, query
        assert "This cannot be understood" in browser.text
