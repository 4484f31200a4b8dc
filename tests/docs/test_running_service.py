import re

import httpx
from litestar.status_codes import HTTP_200_OK

from tests.docs.generate import exposed_name, metrics
from tests.docs.pages import DOCS
from tests.docs.sandbox import Sandbox

# What a scrape shows of a counter or histogram beside itself.
_BESIDE = re.compile(r"_(?:created|bucket|count|sum)$")


def test_every_metric_of_a_running_service_is_documented(sandbox: Sandbox):
    scrape = httpx.get(f"http://{sandbox.instead['127.0.0.1:8082']}/metrics")
    assert scrape.status_code == HTTP_200_OK
    shown = set(re.findall(r"^(notification_\w+?)(?:{.*}| )", scrape.text, re.MULTILINE))
    page = (DOCS / "reference" / "metrics.md").read_text("utf-8")
    families = {
        family for family in re.findall(r"^# TYPE (\w+) ", scrape.text, re.MULTILINE) if not _BESIDE.search(family)
    }
    assert shown
    assert {family for family in families if f"`{family}`" not in page} == set()
    assert {exposed_name(metric) for metric in metrics()} <= families
