"""The dashboards as they are drawn. That each of their queries has an answer is shown by test_live_alerts.py."""

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from monitoring.grafana.draw import DASHBOARDS, dashboards
from tests.docs.generate import exposed_name, metrics
from tests.support.prometheus import named

DRAWN = list(dashboards())
LARGEST = 100_000


def panels(text: str) -> list[dict[str, Any]]:
    return [panel for panel in json.loads(text)["panels"] if panel["type"] != "row"]


def test_the_files_are_what_is_drawn():
    assert {path: path.read_text("utf-8") for path in DASHBOARDS.glob("*.json")} == dict(DRAWN), "run `make docs`"


@pytest.mark.parametrize(("path", "text"), DRAWN, ids=lambda value: value.stem if isinstance(value, Path) else "")
def test_a_dashboard_can_be_imported_and_read(path: Path, text: str):
    dashboard = json.loads(text)
    assert len(text) < LARGEST
    assert dashboard["uid"] == f"notification-{path.stem}"
    assert [variable["name"] for variable in dashboard["templating"]["list"]] == ["datasource"]
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    titles = [panel["title"] for panel in dashboard["panels"]]
    assert len(set(titles)) == len(titles)
    for panel in panels(text):
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["targets"], panel["title"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


@pytest.mark.parametrize(("path", "text"), DRAWN, ids=lambda value: value.stem if isinstance(value, Path) else "")
def test_no_panel_lies_over_another_or_beyond_the_edge(path: Path, text: str):
    del path
    places = [panel["gridPos"] for panel in json.loads(text)["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in combinations(places, 2):
        apart_x = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        apart_y = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart_x or apart_y


def test_every_metric_that_a_dashboard_names_is_one_of_ours():
    known = {exposed_name(metric) for metric in metrics()} | {"notification_build_info"}
    assert {name for _, text in DRAWN for name in named(text)} <= known
