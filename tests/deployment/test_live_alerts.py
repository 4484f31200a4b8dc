"""A real Prometheus watches the service as it runs: every query has an answer, alerts come with incidents and go."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from monitoring.grafana.draw import dashboards
from providers.fakes.ses import Behaviour
from tests.deployment.staging import Watched, eventually, watched
from tests.support.postgres import Database
from tests.support.prometheus import RULES, named
from tests.support.rabbitmq import Broker

QUERIES = {
    f"{path.stem}, {panel['title']}: {target['refId']}": target["expr"].replace("$__rate_interval", "5m")
    for path, text in dashboards()
    for panel in json.loads(text)["panels"]
    for target in panel.get("targets", ())
}
# What only trouble gives a sample.
OF_TROUBLE = {
    "service, Alerts: A",
    "service, What waits for a person: B",
    "providers, Faults of ours: A",
    "providers, Failovers: A",
    "providers, Reports that match nothing, and callbacks that were refused: B",
}
TEXTS = [*(path.read_text("utf-8") for path in RULES), *(text for _, text in dashboards())]
AT_ONCE = {
    "NotificationBreakerOpen",
    "NotificationProviderFault",
    "NotificationDeadLetters",
    "NotificationPaused",
    "NotificationOutboxLate",
    "NotificationIngestDisconnected",
}
OF_A_ROLE = {"NotificationTargetDown", "NotificationRoleMissing", "NotificationSendingLate"}
# What tells of an event stays for a quarter of an hour, on purpose.
THAT_END = (AT_ONCE | OF_A_ROLE) - {"NotificationProviderFault"}
WHY = {"reason": "a test"}


async def test_every_query_has_an_answer_and_alerts_come_with_their_incidents_and_go_with_them(
    database: Database, broker: Broker, tmp_path: Path
):
    async with watched(database, broker, tmp_path) as service, service.traffic():
        await service.ask_about_an_old_sms()
        await eventually(lambda: unexported(service), "metrics that no process exports")
        await eventually(lambda: unanswered(service, QUERIES.keys() - OF_TROUBLE), "queries without an answer")
        pause = await much_goes_wrong(service)
        await eventually(lambda: unanswered(service, OF_TROUBLE), "queries without an answer")
        await service.lose_the_broker()
        await service.let_one_be_due_for_long()
        await eventually(lambda: not_firing(service, AT_ONCE), "alerts that should fire")
        await all_is_mended(service, pause)
        await eventually(lambda: still_firing(service, THAT_END), "alerts that should have ended")
        await service.stop("deliver")
        await service.let_one_be_due_for_long()
        await eventually(lambda: not_firing(service, OF_A_ROLE), "alerts that should fire")
        await service.start("deliver")
        await eventually(lambda: still_firing(service, THAT_END), "alerts that should have ended")


async def much_goes_wrong(service: Watched) -> str:
    """Let a message be no JSON, SES refuse our credentials, a stranger call back; returns the pause that is begun."""
    await service.publish(b"no JSON")
    await eventually(lambda: no_dead_letter(service), "the dead letter")
    service.fake.behaviour = Behaviour(status=403, code="AccessDeniedException")
    assert (await service.api.post("/callbacks/ses", content=b"{}")).status_code == 403
    pause = await service.post("/v1/pauses", type="flash_sale", **WHY)
    return str(pause.json()["id"])


async def all_is_mended(service: Watched, pause: str) -> None:
    service.fake.behaviour = None
    service.to_broker.accept()
    await service.post(f"/v1/pauses/{pause}/resume", **WHY)
    for letter in await dead_letters(service):
        await service.post(f"/v1/dead-letters/{letter['key']}/discard", **WHY)


async def dead_letters(service: Watched) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await service.api.get("/v1/dead-letters")).json()["dead_letters"]
    return found


async def no_dead_letter(service: Watched) -> bool:
    return not await dead_letters(service)


async def unexported(service: Watched) -> set[str]:
    return {name for text in TEXTS for name in named(text)} - await service.prometheus.exported()


async def unanswered(service: Watched, names: Collection[str]) -> list[str]:
    """Name the queries that return no series, or only such as have no value."""
    answers = [(name, await service.prometheus.ask(QUERIES[name])) for name in sorted(names)]
    return [name for name, series in answers if all(one["value"][1] == "NaN" for one in series)]


async def not_firing(service: Watched, names: set[str]) -> set[str]:
    return names - (await service.prometheus.alerts()).keys()


async def still_firing(service: Watched, names: set[str]) -> set[str]:
    return names & (await service.prometheus.alerts()).keys()
