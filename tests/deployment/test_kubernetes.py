import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest
import yaml

from ops.roles import ROLES
from tests.deployment import checkers
from tests.deployment.manifests import (
    ENVIRONMENTS,
    IMAGE,
    K8S,
    WORKLOADS,
    Manifest,
    Manifests,
    borders,
    build,
    container,
    kustomized,
    labels,
    pod,
    rollout,
    secret_files,
    selects,
)

SCHEMA = Path(__file__).parent / "operators.schema.yaml"
OF_OPERATORS = set(yaml.safe_load(SCHEMA.read_text())["properties"]["kind"]["enum"])
# The oldest Kubernetes that knows all that we use (preStop `sleep`), and the newest that the checker knows.
KUBERNETES = ("1.30.0", "1.37.0")
# The image is pinned by its digest: to ask for it again at each start adds nothing but a registry that must be up.
NOT_HERE = ("CKV_K8S_15",)
ZONE, NODE = "topology.kubernetes.io/zone", "kubernetes.io/hostname"


@pytest.fixture(scope="module", params=ENVIRONMENTS)
def manifests(request: pytest.FixtureRequest) -> Manifests:
    return build(request.param)


@pytest.fixture
def overlays(tmp_path: Path) -> list[Path]:
    """Each overlay as a file, as it is applied."""
    for environment in ENVIRONMENTS:
        (tmp_path / f"{environment}.yaml").write_text(build(environment).text)
    return sorted(tmp_path.iterdir())


def test_the_manifests_alone_name_an_image_that_nobody_can_pull():
    """The registry and the digest are the pipeline's: who forgets them sees it fail, and runs nothing old."""
    texts = [path.read_text() for path in K8S.rglob("*.yaml")]
    assert {image for text in texts for image in re.findall(r"image: (.*)", text)} == {"notification-ledger"}
    assert not any("newName" in text for text in texts)


@pytest.mark.parametrize("components", [(), ("vault",)], ids=lambda components: "+".join(components) or "aws")
def test_the_old_dialect_of_kustomize_builds_the_same(components: tuple[str, ...]):
    """Today's kubectl still reads it. Where the machine has an old one, all other tests are about its work."""
    made = build("production", *components)
    told = rollout("production", *components)
    assert without_hash(kustomized(told, old=True)) == without_hash(made.text)


def without_hash(text: str) -> list[Manifest]:
    """The objects, with the ConfigMap by the name that it has in our files."""
    return sorted(yaml.safe_load_all(re.sub(r"\bsettings-\w{10}\b", "settings", text)), key=str)


@pytest.mark.parametrize("version", KUBERNETES)
def test_every_object_is_one_that_kubernetes_knows(version: str, overlays: list[Path]):
    ended = checkers.run("kubernetes-validate", "--strict", "-k", version, *overlays)
    assert ended.returncode == 0, ended.stdout
    assert set(re.findall(r"Couldn't find schema for kind (\w+)", ended.stdout)) == OF_OPERATORS


def test_checkov_finds_nothing(overlays: list[Path]):
    options = ("--skip-download", "--framework", "kubernetes", "--quiet", "--skip-check", ",".join(NOT_HERE))
    ended = checkers.run("checkov", *options, "--output", "json", "--file", *overlays)
    assert ended.returncode == 0, ended.stdout
    summary = msgspec.json.decode(ended.stdout)["summary"]
    assert summary["failed"] == 0
    assert summary["passed"] > len(ENVIRONMENTS) * len(ROLES)


def test_every_object_of_an_operator_is_as_the_operator_describes_it(tmp_path: Path):
    given = [*(one for environment in ENVIRONMENTS for one in build(environment).objects), *of_vault().objects]
    files = []
    for number, one in enumerate(one for one in given if one["kind"] in OF_OPERATORS):
        files.append(tmp_path / f"{number}.yaml")
        files[-1].write_text(yaml.safe_dump(one))
    ended = checkers.run("check-jsonschema", "--schemafile", SCHEMA, *files)
    assert ended.returncode == 0, ended.stdout


def of_vault() -> Manifests:
    return build("production", "vault")


def test_the_component_takes_the_same_secrets_from_vault():
    aws, vault = build("production"), of_vault()
    (store,) = vault.of("SecretStore")
    assert list(store["spec"]["provider"]) == ["vault"]
    assert without_store(vault) == without_store(aws)


def without_store(given: Manifests) -> list[Manifest]:
    return [one for one in given.objects if one["kind"] != "SecretStore"]


def test_every_role_is_a_deployment_that_runs_its_command(manifests: Manifests):
    deployments = manifests.deployments()
    assert sorted(deployments) == sorted(ROLES)
    assert {name: container(one)["command"] for name, one in deployments.items()} == {
        role: ["notification-ledger", role] for role in ROLES
    }
    assert container(manifests.named("Job", "migrate"))["command"] == ["notification-ledger", "migrate"]


def test_every_pod_runs_the_image_that_was_made_and_is_allowed_nothing_more_than_it_needs(manifests: Manifests):
    accounts = {one["metadata"]["name"]: one for one in manifests.of("ServiceAccount")}
    for one in manifests.of(*WORKLOADS):
        spec, only = pod(one), container(one)
        assert only["image"] == IMAGE
        assert spec["securityContext"]["runAsUser"] == spec["securityContext"]["fsGroup"] == 10001
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert only["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert not spec["automountServiceAccountToken"]
        assert not accounts[spec["serviceAccountName"]]["automountServiceAccountToken"]
        assert not spec["enableServiceLinks"]
    (namespace,) = manifests.of("Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_everything_is_in_one_namespace_and_can_be_told_apart_by_its_labels(manifests: Manifests):
    (namespace,) = manifests.of("Namespace")
    for one in manifests.objects:
        assert one["metadata"]["labels"]["app.kubernetes.io/name"] == "notification-ledger"
        assert one["metadata"]["labels"]["app.kubernetes.io/component"] in {*ROLES, "migrate", "installation"}
        if one is not namespace:
            assert one["metadata"]["namespace"] == namespace["metadata"]["name"]


def test_what_the_migration_needs_can_be_applied_before_the_roles(manifests: Manifests):
    """By the labels of the how-to page: all of them but what belongs to a role."""
    first = [
        one
        for one in manifests.objects
        if one["metadata"]["labels"]["app.kubernetes.io/component"] in {"installation", "migrate"}
    ]
    secrets = {one["metadata"]["name"] for one in first if one["kind"] == "ExternalSecret"}
    job = manifests.named("Job", "migrate")
    assert {name for name, _ in secret_files(job).values()} <= secrets
    kinds = {one["kind"] for one in first}
    assert {"Namespace", "ConfigMap", "ServiceAccount", "SecretStore", "NetworkPolicy"} <= kinds
    assert kinds.isdisjoint({"Deployment", "Service", "Ingress"})


def test_every_file_of_a_secret_is_a_key_that_is_brought_and_nothing_is_brought_that_nobody_reads(
    manifests: Manifests,
):
    brought = {
        (one["metadata"]["name"], entry["secretKey"])
        for one in manifests.of("ExternalSecret")
        for entry in one["spec"]["data"]
    }
    read = {key for one in manifests.of(*WORKLOADS) for key in secret_files(one).values()}
    assert read == brought
    (authentication,) = manifests.of("TriggerAuthentication")
    assert {(one["name"], one["key"]) for one in authentication["spec"]["secretTargetRef"]} <= brought


def test_the_owner_of_the_schema_is_known_to_the_migration_alone(manifests: Manifests):
    knows = {
        one["metadata"]["name"]
        for one in manifests.of(*WORKLOADS)
        if any(key == "MIGRATION_DATABASE_URL" for _, key in secret_files(one).values())
    }
    assert knows == {"migrate"}
    assert "DATABASE_URL" not in {key for _, key in secret_files(manifests.named("Job", "migrate")).values()}


def test_where_weeks_are_archived_one_login_drops_them_and_two_accounts_reach_the_bucket(manifests: Manifests):
    """Staging and production archive; the application's own login drops nothing there."""
    archiving = manifests.environment != "dev"
    assert {"ARCHIVE_URL", "ARCHIVE_ROLE"} & manifests.settings().keys() == (
        {"ARCHIVE_URL", "ARCHIVE_ROLE"} if archiving else set()
    )
    drops = [
        one["metadata"]["name"]
        for one in manifests.of(*WORKLOADS)
        if any(key == "ARCHIVE_DATABASE_URL" for _, key in secret_files(one).values())
    ]
    assert drops == (["maintain"] if archiving else [])
    accounts = {name: pod(one)["serviceAccountName"] for name, one in manifests.deployments().items()}
    own = {name for name, account in accounts.items() if account == f"notification-ledger-{name}"}
    assert own == ({"api", "maintain", "deliver"} if archiving else {"deliver"})
    with_a_role = {
        one["metadata"]["name"] for one in manifests.of("ServiceAccount") if one["metadata"].get("annotations")
    }
    assert with_a_role == {f"notification-ledger-{name}" for name in (*own, "secrets")}


def test_every_selector_takes_the_pods_that_it_is_there_for(manifests: Manifests):
    pods = {one["metadata"]["name"]: labels(one) for one in manifests.of(*WORKLOADS)}

    def taken(selector: Manifest) -> list[str]:
        return [name for name, given in pods.items() if selects(selector, given)]

    for name, one in manifests.deployments().items():
        assert taken(one["spec"]["selector"]) == [name]
    for one in manifests.of("PodDisruptionBudget"):
        assert taken(one["spec"]["selector"]) == [one["metadata"]["name"]]
    for one in manifests.of("NetworkPolicy"):
        assert taken(one["spec"]["podSelector"])
    (service,) = manifests.of("Service")
    assert taken({"matchLabels": service["spec"]["selector"]}) == ["api"]
    (monitor,) = manifests.of("PodMonitor")
    assert sorted(taken(monitor["spec"]["selector"])) == sorted(ROLES)
    assert sorted(one["metadata"]["name"] for one in manifests.of("PodDisruptionBudget")) == sorted(ROLES)


def test_every_name_of_a_port_is_one_that_its_pod_has(manifests: Manifests):
    for one in manifests.deployments().values():
        named = ports(one)
        probes = [container(one)[f"{kind}Probe"]["httpGet"]["port"] for kind in ("startup", "liveness", "readiness")]
        (monitor,) = manifests.of("PodMonitor")
        assert {*probes, *(one["port"] for one in monitor["spec"]["podMetricsEndpoints"])} <= named
    (service,) = manifests.of("Service")
    assert {one["targetPort"] for one in service["spec"]["ports"]} <= ports(manifests.deployments()["api"])
    (ingress,) = manifests.of("Ingress")
    (rule,) = ingress["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    assert path["backend"]["service"]["name"] == service["metadata"]["name"]
    assert path["backend"]["service"]["port"]["name"] in {one["name"] for one in service["spec"]["ports"]}
    assert ingress["spec"]["tls"][0]["hosts"] == [rule["host"]]


def ports(workload: Manifest) -> set[str]:
    return {one["name"] for one in container(workload)["ports"]}


def test_a_deployment_is_scaled_by_one_autoscaler_or_says_how_many_there_are(manifests: Manifests):
    scaled = Counter(
        one["spec"]["scaleTargetRef"]["name"] for one in manifests.of("HorizontalPodAutoscaler", "ScaledObject")
    )
    assert scaled == Counter(["api", "project", "ingest", "deliver"])
    for name, one in manifests.deployments().items():
        assert ("replicas" in one["spec"]) == (name not in scaled)
    assert sorted(borders(manifests)) == sorted(ROLES)
    assert min(least for least, _ in borders(manifests).values()) >= 2, "one alone is none while its node is emptied"


def test_every_role_is_spread_over_zones_and_nodes_among_its_own(manifests: Manifests):
    for one in manifests.deployments().values():
        constraints = pod(one)["topologySpreadConstraints"]
        assert [each["topologyKey"] for each in constraints] == [ZONE, NODE]
        for each in constraints:
            assert selects(each["labelSelector"], labels(one))
            assert each["matchLabelKeys"] == ["app.kubernetes.io/component", "pod-template-hash"]


def test_environments_are_apart():
    environments = [build(environment) for environment in ENVIRONMENTS]
    for name in ("INSTALLATION", "PUBLIC_URL", "JWT_ISSUER", "SES_TOPIC_ARNS"):
        assert all_differ(one.settings()[name] for one in environments), name
    assert all_differ(one.named("NetworkPolicy", "database")["spec"]["egress"][0]["to"] for one in environments)


def all_differ(values: Iterable[object]) -> bool:
    told = [str(value) for value in values]
    return len(set(told)) == len(told)


def test_only_production_writes_to_everybody():
    allowed = {environment: build(environment).settings()["RECIPIENT_ALLOW_LIST"] for environment in ENVIRONMENTS}
    assert {environment for environment, who in allowed.items() if "*" in who} == {"production"}
