from datetime import UTC, datetime
from typing import Any

from ops.jobs import archiving_of
from ops.settings import load
from tests.integration import old_weeks as long_ago
from tests.integration.api.conftest import Service
from tests.integration.old_weeks import weeks_ago
from tests.integration.projections.lives import Life
from tests.support.postgres import Database


async def test_a_notification_of_an_archived_week_answers_as_before_and_says_when_its_words_were_deleted(
    service: Service, database: Database
):
    long_ago.make_weeks(database)
    (life,) = await long_ago.lived(service.ledger, weeks_ago(20), 1)
    await long_ago.folded(service.ledger, database)
    path = f"/v1/notifications/{life.stream}"

    async def answers() -> list[Any]:
        asked = (path, f"{path}?version=4", f"{path}/history", f"{path}/explanation")
        found = [await service.client.get(url) for url in asked]
        assert {answer.status_code for answer in found} == {200}
        return [answer.json() for answer in found]

    before = await answers()
    assert (await service.client.get(f"{path}/content")).status_code == 404
    services = service.services
    archiving = archiving_of(load({}, dotenv=None), services.ledger.store, services.archive, services.metrics)
    await archiving.drop_content()
    gone = await service.client.get(f"{path}/content")
    assert sum(manifest.facts for manifest in await archiving.archive()) == len(life.facts)
    assert await answers() == before
    for answer in (gone, await service.client.get(f"{path}/content")):
        assert (answer.status_code, answer.json()["type"]) == (410, "/problems/deleted-by-retention")
        assert answer.json()["detail"] == f"what was said was deleted by retention on {datetime.now(UTC):%Y-%m-%d}"
    another = f"/v1/notifications/{Life(weeks_ago(20)).stream}"
    for url in (another, f"{another}/history", f"{another}/content"):
        assert (await service.client.get(url)).status_code == 404
    late = await service.client.post(f"{path}/cancel", json={"reason": "she has called"})
    assert (late.status_code, late.json()["type"]) == (409, "/problems/too-late")
