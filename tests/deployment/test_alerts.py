"""The alerts as Prometheus' own checker reads them, and the runbooks that they lead to."""

import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.generate import alerts, exposed_name, metrics
from tests.docs.pages import ROOT, anchors
from tests.support.prometheus import MONITORING, RULES, hurried, named

TESTS = sorted((MONITORING / "tests").glob("*.yaml"))
_RUNBOOK = re.compile(r"{{ \$externalLabels\.repository }}/(docs/how-to/[\w-]+\.md)#([\w-]+)")
_FIRED = re.compile(r'alertname="(\w+)", alertstate="firing"')


ALERTS = list(alerts())


def promtool(*arguments: str | Path, folder: Path = MONITORING) -> None:
    ended = subprocess.run(["promtool", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_prometheus_takes_the_example_configuration_with_all_its_rules():
    promtool("check", "config", "prometheus.yml")


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_each_alert_fires_when_it_should_and_no_other_does(path: Path):
    promtool("test", "rules", path)


def test_an_alert_that_never_fires_fails_its_test(tmp_path: Path):
    for folder in ("rules", "tests"):
        (tmp_path / folder).mkdir()
    (tmp_path / "tests" / "readers.yaml").write_text((MONITORING / "tests" / "readers.yaml").read_text("utf-8"))
    broken = (MONITORING / "rules" / "readers.yaml").read_text("utf-8").replace("_parked) > 0", "_parked) > 9")
    (tmp_path / "rules" / "readers.yaml").write_text(broken)
    with pytest.raises(AssertionError, match="NotificationProjectionParked"):
        promtool("test", "rules", "tests/readers.yaml", folder=tmp_path)


def test_each_alert_has_a_name_of_its_own_and_a_test_in_which_it_fires():
    names = Counter(alert["alert"] for alert in ALERTS)
    assert set(names.values()) == {1}
    fired = {name for path in TESTS for name in _FIRED.findall(path.read_text("utf-8"))}
    assert fired == set(names)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_each_alert_says_how_bad_it_is_what_it_means_and_what_to_do(alert: dict[str, Any]):
    assert alert["labels"] in ({"severity": "critical"}, {"severity": "warning"})
    assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}
    found = _RUNBOOK.fullmatch(alert["annotations"]["runbook_url"])
    assert found is not None
    page, anchor = found.groups()
    assert anchor == alert["alert"].lower()
    assert anchor in anchors(ROOT / page)


def test_the_example_scrapes_under_the_name_that_the_alerts_ask_for():
    asked = {name for path in RULES for name in re.findall(r'job="([^"]+)"', path.read_text("utf-8"))}
    example = yaml.safe_load((MONITORING / "prometheus.yml").read_text("utf-8"))
    assert asked <= {job["job_name"] for job in example["scrape_configs"]}


def test_every_metric_that_a_rule_names_is_one_of_ours():
    known = {exposed_name(metric) for metric in metrics()}
    assert {name for path in RULES for name in named(path.read_text("utf-8"))} <= known


def test_the_rules_of_the_live_test_differ_by_their_patience_alone():
    for path in RULES:
        ours, theirs = path.read_text("utf-8").splitlines(), hurried(path.read_text("utf-8")).splitlines()
        changed = {line.strip() for line, other in zip(ours, theirs, strict=True) if line != other}
        assert all(line.startswith("for: ") or "[1m]" in line for line in changed)
