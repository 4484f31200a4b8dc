"""The manifests as the cluster gets them: an overlay, built with the image that the pipeline has made."""

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import yaml

K8S = Path(__file__).parents[2] / "k8s"
ENVIRONMENTS = ("dev", "staging", "production")
IMAGE = f"registry.example/notification-ledger@sha256:{'0' * 64}"
WORKLOADS = ("Deployment", "Job")

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
    with tempfile.TemporaryDirectory() as folder:
        above = os.path.relpath(K8S, folder)
        (Path(folder) / "kustomization.yaml").write_text(
            yaml.safe_dump(
                {
                    "resources": [f"{above}/overlays/{environment}"],
                    "components": [f"{above}/components/{name}" for name in components],
                    "images": [{"name": "notification-ledger", "newName": IMAGE.partition("@")[0], "digest": digest()}],
                }
            )
        )
        text = kustomized(Path(folder))
    return Manifests(environment, text, tuple(yaml.safe_load_all(text)))


def digest() -> str:
    return IMAGE.partition("@")[2]


def kustomized(folder: Path) -> str:
    """Return what kustomize makes of a folder. A warning is an error: it names a field that is going away."""
    ended = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    assert not ended.stderr
    return ended.stdout


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


def metrics_in(query: str) -> set[str]:
    return set(re.findall(r"\bnotification_\w+", re.sub(r"\{.*?\}", "", query)))


def triggers(given: Manifests, kind: str) -> Iterator[Manifest]:
    """The triggers of a kind, of all ScaledObjects."""
    for scaled in given.of("ScaledObject"):
        yield from (one for one in scaled["spec"]["triggers"] if one["type"] == kind)
