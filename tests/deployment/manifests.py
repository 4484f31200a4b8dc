"""The manifests as the cluster gets them: an overlay, built with the image that the pipeline has made."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import yaml

from tests.deployment import old_kustomize

K8S = Path(__file__).parents[2] / "k8s"
ENVIRONMENTS = ("dev", "staging", "production")
IMAGE = f"registry.example/notification-ledger@sha256:{'0' * 64}"
WORKLOADS = ("Deployment", "Job")
# The version of kubectl that came with a kustomize that knows components and patches with a target.
_TODAYS_KUSTOMIZE = (1, 21)

Manifest = Mapping[str, Any]


class Manifests(msgspec.Struct, frozen=True):
    """What one environment is made of; `text` as it is applied."""

    environment: str
    text: str
    objects: tuple[Manifest, ...]

    def of(self, *kinds: str) -> list[Manifest]:
        return [one for one in self.objects if one["kind"] in kinds]

    def named(self, kind: str, name: str) -> Manifest:
        (found,) = (one for one in self.of(kind) if one["metadata"]["name"] == name)
        return found

    def settings(self) -> dict[str, str]:
        """What the ConfigMap says."""
        (config,) = self.of("ConfigMap")
        return dict(config["data"])

    def deployments(self) -> dict[str, Manifest]:
        return {one["metadata"]["name"]: one for one in self.of("Deployment")}


@cache
def build(environment: str, *components: str) -> Manifests:
    """Build an overlay as the pipeline does: with the registry and the digest of one image, and more components."""
    text = kustomized(rollout(environment, *components), old=_kubectl_is_old())
    return Manifests(environment, text, tuple(yaml.safe_load_all(text)))


def rollout(environment: str, *components: str) -> Manifest:
    """The kustomization that the pipeline writes."""
    name, _, digest = IMAGE.partition("@")
    return {
        "resources": [f"../overlays/{environment}"],
        "components": [f"../components/{component}" for component in components],
        "images": [{"name": "notification-ledger", "newName": name, "digest": digest}],
    }


def kustomized(kustomization: Manifest, *, old: bool) -> str:
    """Return what kustomize makes of our manifests and one kustomization beside them, in its old dialect or in today's.

    A warning is an error: it names a field that is going away.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "k8s"
        shutil.copytree(K8S, root)
        (root / "rollout").mkdir()
        (root / "rollout" / old_kustomize.FILE).write_text(yaml.safe_dump(dict(kustomization)))
        if old:
            old_kustomize.translate(root)
        ended = _kubectl("kustomize", str(root / "rollout"))
    assert ended.returncode == 0, ended.stderr
    assert old or not ended.stderr, ended.stderr
    return ended.stdout


@cache
def _kubectl_is_old() -> bool:
    told = _kubectl("version", "--client", "--output", "json").stdout
    numbers = re.match(r"v(\d+)\.(\d+)", msgspec.json.decode(told)["clientVersion"]["gitVersion"])
    assert numbers, told
    return (int(numbers[1]), int(numbers[2])) < _TODAYS_KUSTOMIZE


def _kubectl(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["kubectl", *arguments], capture_output=True, text=True, timeout=60, check=False)


def pod(workload: Manifest) -> Manifest:
    spec: Manifest = workload["spec"]["template"]["spec"]
    return spec


def container(workload: Manifest) -> Manifest:
    (only,) = pod(workload)["containers"]
    found: Manifest = only
    return found


def labels(workload: Manifest) -> Mapping[str, str]:
    """The labels that selectors see."""
    found: Mapping[str, str] = workload["spec"]["template"]["metadata"]["labels"]
    return found


def selects(selector: Manifest, given: Mapping[str, str]) -> bool:
    """Whether a label selector takes these labels; the empty one takes all."""
    exact = all(given.get(name) == value for name, value in selector.get("matchLabels", {}).items())
    return exact and all(_holds(one, given) for one in selector.get("matchExpressions", ()))


def _holds(expression: Manifest, given: Mapping[str, str]) -> bool:
    listed = given.get(expression["key"]) in expression["values"]
    return listed if {"In": True, "NotIn": False}[expression["operator"]] else not listed


def secret_files(workload: Manifest) -> dict[str, tuple[str, str]]:
    """Each path that a workload mounts a secret's key at."""
    mounted = {one["name"]: one["mountPath"] for one in container(workload)["volumeMounts"]}
    return {
        f"{mounted[volume['name']]}/{item['path']}": (source["secret"]["name"], item["key"])
        for volume in pod(workload)["volumes"]
        for source in volume["projected"]["sources"]
        for item in source["secret"]["items"]
    }


def borders(given: Manifests) -> dict[str, tuple[int, int]]:
    """How many there are of each role, at least and at most."""
    fixed = {
        name: (one["spec"]["replicas"],) * 2 for name, one in given.deployments().items() if "replicas" in one["spec"]
    }
    words = {"HorizontalPodAutoscaler": "Replicas", "ScaledObject": "ReplicaCount"}
    return fixed | {
        one["spec"]["scaleTargetRef"]["name"]: (one["spec"][f"min{word}"], one["spec"][f"max{word}"])
        for kind, word in words.items()
        for one in given.of(kind)
    }


def metrics_in(query: str) -> set[str]:
    return set(re.findall(r"\bnotification_\w+", re.sub(r"\{.*?\}", "", query)))


def triggers(given: Manifests, kind: str) -> Iterator[Manifest]:
    """The triggers of a kind, of all ScaledObjects."""
    for scaled in given.of("ScaledObject"):
        yield from (one for one in scaled["spec"]["triggers"] if one["type"] == kind)
