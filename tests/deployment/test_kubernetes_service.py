import base64
import math
import re
import subprocess
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiormq.connection import DEFAULT_PORTS
from psycopg import pq

from api import health
from handlers.ingest import NORMAL, URGENT
from ops.roles import ROLES
from ops.serving import GRACE
from ops.settings import REQUIRED, REQUIRED_FOR, Settings, load, require
from providers import fcm, ses, smtp, twilio
from providers.fakes.fcm_access import Account
from providers.smtp_url import PORTS, Security
from tests.deployment.manifests import (
    ENVIRONMENTS,
    WORKLOADS,
    Manifest,
    Manifests,
    borders,
    build,
    container,
    labels,
    metrics_in,
    pod,
    secret_files,
    selects,
    triggers,
)
from tests.docs.pages import DOCS, ROOT, blocks
from tests.support import service as processes
from tests.support.postgres import KEY_ENCRYPTION_KEY, Database

GUIDE = DOCS / "how-to" / "run-on-kubernetes.md"
RULES = ROOT / "monitoring" / "prometheus" / "rules"
HTTPS = 443
# Beside the pool, of the role that has most: one that appends, two that signal and listen, two followers, readiness.
OWN_CONNECTIONS = 6
# Of each `maintain`, while all its jobs run at the same time.
OF_JOBS = 9
# Read by libpq, as the URL of the database says.
AUTHORITY = "/run/secrets/notification-ledger/DATABASE_CA"
# What a secret holds, as an operator would write it down.
SECRETS = {
    "DATABASE_URL": "postgresql://ledger_app:one@database.example/notification_ledger",
    "MIGRATION_DATABASE_URL": "postgresql://ledger_owner:two@database.example/notification_ledger",
    "DATABASE_CA": "the authority that signed the database's certificate",
    "KEY_ENCRYPTION_KEY": base64.b64encode(KEY_ENCRYPTION_KEY).decode(),
    "AMQP_URL": "amqps://ledger:three@broker.example/",
    "TWILIO_ACCOUNT_SID": "an account",
    "TWILIO_AUTH_TOKEN": "four",
    "FCM_CREDENTIALS": Account("project").credentials("https://provider.example"),
    "SMTP_URL": "smtp://ledger:five@relay.example",
    "ARCHIVE_DATABASE_URL": "postgresql://ledger_archive:six@database.example/notification_ledger",
}


@pytest.fixture(scope="module", params=ENVIRONMENTS)
def manifests(request: pytest.FixtureRequest) -> Manifests:
    return build(request.param)


def environment_of(workload: Manifest, given: Manifests) -> dict[str, str]:
    """The environment that a pod's process sees."""
    (source,) = container(workload)["envFrom"]
    config = given.named("ConfigMap", source["configMapRef"]["name"])
    return {**config["data"], **{one["name"]: one["value"] for one in container(workload)["env"]}}


def with_files(environment: Mapping[str, str], workload: Manifest, folder: Path) -> dict[str, str]:
    """The environment with the files of this machine: each where the pod would mount it, below a folder."""
    for path, (_, key) in secret_files(workload).items():
        file = folder / path.removeprefix("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(SECRETS[key])
    return {name: f"{folder}{text}" if name.endswith("_FILE") else text for name, text in environment.items()}


def test_everything_that_is_set_is_a_setting(manifests: Manifests):
    known = {name.upper() for name in Settings.__struct_fields__}
    for workload in manifests.of(*WORKLOADS):
        assert {name.removesuffix("_FILE") for name in environment_of(workload, manifests)} <= known


def test_every_role_starts_with_the_settings_that_it_is_given(manifests: Manifests, tmp_path: Path):
    for workload in manifests.of(*WORKLOADS):
        command = container(workload)["command"][-1]
        settings = load(with_files(environment_of(workload, manifests), workload, tmp_path), dotenv=None)
        require(settings, [command])
        assert settings.host == "0.0.0.0"  # noqa: S104 - a pod's own network
        assert settings.served() == {"email", "sms", "push"}


def test_a_role_reads_every_file_that_it_mounts_and_mounts_no_secret_that_it_does_not_need(manifests: Manifests):
    optional = {"deliver": {"SMTP_URL"}, "project": {"AMQP_URL"}}
    if archives(manifests):
        optional["maintain"] = {"ARCHIVE_DATABASE_URL"}
    for workload in manifests.of(*WORKLOADS):
        role = container(workload)["command"][-1]
        read = {name: path for name, path in environment_of(workload, manifests).items() if name.endswith("_FILE")}
        assert {*read.values(), AUTHORITY} == set(secret_files(workload))
        assert f"sslrootcert={AUTHORITY}" in GUIDE.read_text("utf-8")
        needed = {name.upper() for name in (*REQUIRED[role], *of_channels(role))} & SECRETS.keys()
        assert {name.removesuffix("_FILE") for name in read} == needed | optional.get(role, set())


def archives(given: Manifests) -> bool:
    """Whether old weeks of this environment go to S3."""
    return given.settings().get("ARCHIVE_URL", "").startswith("s3://")


def of_channels(role: str) -> set[str]:
    """What a role needs for one channel or another."""
    return {name for roles in REQUIRED_FOR.values() for name in roles.get(role, ())}


def test_what_may_leave_a_pod_is_what_its_settings_lead_to_and_nothing_else(manifests: Manifests):
    for workload in manifests.of(*WORKLOADS):
        role = container(workload)["command"][-1]
        mounted = {key for _, key in secret_files(workload).values()}
        expected = {port for key in mounted for port in leads_to(key)}
        if of_channels(role) or "jwt_jwks_url" in REQUIRED[role]:
            expected.add(HTTPS)
        if role in {"api", "maintain"} and archives(manifests):
            expected.add(HTTPS)
        assert open_ports(manifests, workload, "egress") - {53} == expected, role


def leads_to(secret: str) -> set[int]:
    """The ports behind the URL that a secret holds."""
    if secret.endswith("DATABASE_URL"):
        (compiled,) = (one.compiled for one in pq.Conninfo.get_defaults() if one.keyword == b"port")
        return {int(compiled or 0)}
    return {
        "AMQP_URL": {DEFAULT_PORTS["amqps"]},
        "SMTP_URL": {PORTS[Security.STARTTLS], PORTS[Security.TLS]},
    }.get(secret, set())


def open_ports(given: Manifests, workload: Manifest, direction: str) -> set[int]:
    """The ports that the policies open for a pod, in or out."""
    rules = [
        rule
        for policy in given.of("NetworkPolicy")
        if selects(policy["spec"]["podSelector"], labels(workload))
        for rule in policy["spec"].get(direction, ())
    ]
    assert all(rule["to" if direction == "egress" else "from"] for rule in rules)
    return {port["port"] for rule in rules for port in rule["ports"]}


def test_what_may_reach_a_pod_is_what_it_listens_on(manifests: Manifests):
    config = load(manifests.settings(), dotenv=None)
    for role, workload in manifests.deployments().items():
        listens = {config.ops_port, *([config.port] if role == "api" else [])}
        assert {one["containerPort"] for one in container(workload)["ports"]} == listens
        assert open_ports(manifests, workload, "ingress") == listens
    assert open_ports(manifests, manifests.named("Job", "migrate"), "ingress") == set()


def test_everything_else_is_closed(manifests: Manifests):
    closed = manifests.named("NetworkPolicy", "default-deny")["spec"]
    assert closed == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for policy in manifests.of("NetworkPolicy"):
        spec = policy["spec"]
        assert {name.lower() for name in spec["policyTypes"]} >= spec.keys() & {"ingress", "egress"}


def test_a_pod_has_more_time_to_end_than_the_service_takes(manifests: Manifests):
    """Health is served to the end; the API answers what is under way; `deliver` waits for its slowest provider."""
    slowest = max(one.DEADLINE for one in (ses, smtp, twilio, fcm))
    own = {**dict.fromkeys(ROLES, GRACE), "api": 2 * GRACE, "deliver": GRACE + slowest}
    for role, workload in manifests.deployments().items():
        before = container(workload).get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        given = timedelta(seconds=pod(workload)["terminationGracePeriodSeconds"] - before)
        assert given >= own[role] + timedelta(seconds=10), role
    assert "lifecycle" in container(manifests.deployments()["api"])


def test_a_pod_is_not_ready_within_five_seconds_of_losing_the_database(manifests: Manifests):
    for workload in manifests.deployments().values():
        probe = container(workload)["readinessProbe"]
        assert probe["failureThreshold"] == 1
        assert timedelta(seconds=probe["timeoutSeconds"]) > health.DEADLINE
        assert timedelta(seconds=probe["periodSeconds"]) + health.DEADLINE <= timedelta(seconds=5)


def test_ingest_is_scaled_by_the_queues_that_it_reads(manifests: Manifests):
    assert [one["metadata"]["queueName"] for one in triggers(manifests, "rabbitmq")] == [URGENT, NORMAL]


def test_the_guide_says_how_far_production_grows_and_counts_its_connections():
    given, guide = build("production"), GUIDE.read_text("utf-8")
    for role, (least, most) in borders(given).items():
        assert re.search(rf"^\| `{role}` \|.*\| {least}, {most} \|$", guide, re.MULTILINE), role
    assert {one["spec"]["strategy"]["rollingUpdate"]["maxSurge"] for one in given.of("Deployment")} == {"25%"}
    at_once = {role: most + math.ceil(most / 4) for role, (_, most) in borders(given).items()}
    processes, each = sum(at_once.values()), load(given.settings(), dotenv=None).database_pool_size + OWN_CONNECTIONS
    all_together = processes * each + at_once["maintain"] * OF_JOBS
    told = f"{processes} processes with up to {each} connections each, and `maintain` {OF_JOBS} more for its jobs"
    assert f"{told}: {all_together}" in " ".join(guide.split())


AGE = 'notification_agenda_oldest_due_seconds{namespace="notification-ledger",channel="email",lane="%s"}'
HELD = 'notification_agenda_held{namespace="notification-ledger"}'


def test_who_scales_by_the_agenda_sees_its_age_and_nothing_due_is_not_the_same_as_nobody_who_knows(tmp_path: Path):
    """As Prometheus evaluates it: with something due, then with nothing due, then with `maintain` gone."""
    urgent, anything = queries()
    series = {AGE % "urgent": "40 _ _", AGE % "low": "900 _ _", HELD: "3 3 _"}
    expected = {urgent: [40, 0, None], anything: [900, 0, None]}
    test = {
        "interval": "6m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": query,
                "eval_time": f"{6 * minute}m",
                "exp_samples": [] if value is None else [{"labels": "{}", "value": value}],
            }
            for query, values in expected.items()
            for minute, value in enumerate(values)
        ],
    }
    (tmp_path / "test.yaml").write_text(yaml.safe_dump({"tests": [test]}))
    ended = subprocess.run(
        ["promtool", "test", "rules", tmp_path / "test.yaml"], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def queries() -> list[str]:
    """What `deliver` is scaled by."""
    return [one["metadata"]["query"] for one in triggers(build("production"), "prometheus")]


def test_the_guide_brings_the_operator_every_rule_and_the_job_that_the_rules_ask_for():
    (commands,) = (block.text for block in blocks(GUIDE) if block.words == ("sh", "rules"))
    sent = subprocess.run(
        ["bash", "-eu", "-c", f"kubectl() {{ cat; }}\n{commands}"], cwd=ROOT, capture_output=True, check=True
    )
    brought = [one for one in yaml.safe_load_all(sent.stdout) if one]
    assert {one["kind"] for one in brought} == {"PrometheusRule"}
    assert [one["spec"] for one in brought] == [yaml.safe_load(path.read_text()) for path in sorted(RULES.iterdir())]
    asked = {job for path in RULES.iterdir() for job in re.findall(r'\bjob="([^"]+)"', path.read_text())}
    given = build("production")
    (monitor,) = given.of("PodMonitor")
    assert asked == {labels(one)[monitor["spec"]["jobLabel"]] for one in given.of("Deployment")}


@pytest.fixture
async def running(database: Database, tmp_path: Path) -> AsyncIterator[processes.Process]:
    """The role that exports what others scale by, with the settings of production but for where it is."""
    async with processes.running(tmp_path, DATABASE_URL=database.url) as service:
        yield await service.start("maintain")


async def test_a_running_service_answers_every_probe_and_exports_every_metric_that_it_is_scaled_by(
    running: processes.Process,
):
    for workload in build("production").of("Deployment"):
        for path in probed(container(workload)):
            assert running.ask(path).is_success
    (monitor,) = build("production").of("PodMonitor")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    exported = set(re.findall(r"^# TYPE (\w+) ", running.ask(endpoint["path"]).text, re.MULTILINE))
    assert {name for query in queries() for name in metrics_in(query)} <= exported


def probed(given: Mapping[str, Any]) -> set[str]:
    return {given[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
