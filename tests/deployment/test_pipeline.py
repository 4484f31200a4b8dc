import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deployment import checkers

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
FOLDER = GITHUB / "workflows"
WORKFLOWS = sorted(path.name for path in FOLDER.glob("*.yml"))
DIGEST = f"sha256:{'0a' * 32}"


def workflow(name: str) -> dict[str, Any]:
    # `on` is a boolean to YAML 1.1; a base loader leaves every scalar the text that it is.
    loaded: dict[str, Any] = yaml.load((FOLDER / name).read_text(), Loader=yaml.BaseLoader)  # noqa: S506 - makes text only
    return loaded


def steps() -> Iterator[tuple[str, dict[str, Any]]]:
    for name in WORKFLOWS:
        for job in workflow(name)["jobs"].values():
            yield from ((name, step) for step in [job, *job.get("steps", [])] if "uses" in step)


@pytest.mark.parametrize(
    ("schema", "file"),
    [("github-workflows", FOLDER / name) for name in WORKFLOWS] + [("dependabot", GITHUB / "dependabot.yml")],
    ids=lambda given: Path(given).name,
)
def test_the_file_has_no_fault_that_its_schema_knows(schema: str, file: Path):
    ended = checkers.run("check-jsonschema", "--builtin-schema", f"vendor.{schema}", file)
    assert ended.returncode == 0, ended.stdout


def test_zizmor_finds_nothing_that_an_attacker_could_use():
    ended = checkers.run("zizmor", "--offline", "--no-progress", str(GITHUB))
    assert ended.returncode == 0, ended.stdout


def test_every_action_of_others_is_pinned_by_its_full_commit():
    used = {step["uses"] for _, step in steps() if not step["uses"].startswith("$/")}
    assert [one for one in used if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", one)] == []


@pytest.mark.parametrize("name", WORKFLOWS)
def test_nobody_has_a_right_that_his_job_does_not_name(name: str):
    assert workflow(name)["permissions"] == {}
    assert [job for job, given in workflow(name)["jobs"].items() if "permissions" not in given] == []


def test_every_part_of_the_checks_is_one_of_tox_and_none_is_missing():
    (parts,) = re.findall(r"env_list = (.*)", (ROOT / "tox.ini").read_text())
    assert workflow("checks.yml")["jobs"]["part"]["strategy"]["matrix"]["part"] == parts.split(", ")


def test_production_gets_what_staging_got_and_staging_what_dev_got():
    jobs = workflow("release.yml")["jobs"]
    assert jobs["image"]["needs"] == "checks"
    assert {name: jobs[name]["needs"] for name in ("dev", "staging", "production")} == {
        "dev": "image",
        "staging": ["image", "dev"],
        "production": ["image", "staging"],
    }
    assert {(name, jobs[name]["with"]["environment"]) for name in ("dev", "staging", "production")} == {
        (name, name) for name in (path.name for path in (ROOT / "k8s/overlays").iterdir() if path.is_dir())
    }


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    """A kubectl on PATH that builds as the real one does, and writes down what else it is asked for."""
    asked = tmp_path / "asked"
    program = tmp_path / "kubectl"
    program.write_text(
        f'#!/bin/sh\nif [ "$1" = kustomize ]; then {shutil.which("kubectl")} "$@" | tee {tmp_path}/rendered; exit; fi\n'
        f'echo "$@" >> {asked}\n'
        # The migration has succeeded, or has failed: nobody will see the other one.
        f'case "$*" in *=complete*) [ -e {tmp_path}/fails ] && exec sleep 600 ;; *=failed*) [ -e {tmp_path}/fails ] || '
        f"exec sleep 600 ;; get*) [ -e {tmp_path}/fails ] || echo 1 ;; esac\nexit 0\n"
    )
    program.chmod(0o755)
    return asked


def roll_out(cluster: Path, image: str) -> int:
    command = [str(ROOT / "k8s/roll-out.sh"), "staging", image]
    path = f"{cluster.parent}:{os.environ['PATH']}"
    return subprocess.run(command, env={**os.environ, "PATH": path}, check=False, timeout=300).returncode


def test_a_rollout_migrates_before_any_role_is_changed(cluster: Path):
    before = set((ROOT / "k8s/overlays").iterdir())
    assert roll_out(cluster, f"registry.example/notification-ledger@{DIGEST}") == 0
    verbs = [line.split()[0] for line in cluster.read_text().splitlines()]
    assert verbs == ["delete", "apply", "wait", "wait", "get", "apply", "rollout"]
    first, second = (line for line in cluster.read_text().splitlines() if line.startswith("apply"))
    assert first.endswith("--selector app.kubernetes.io/component in (installation, migrate)")
    assert "--selector" not in second
    assert set((ROOT / "k8s/overlays").iterdir()) == before


def test_a_migration_that_fails_ends_the_rollout_at_once_and_changes_no_role(cluster: Path):
    (cluster.parent / "fails").touch()
    assert roll_out(cluster, f"registry.example/notification-ledger@{DIGEST}") == 1
    verbs = [line.split()[0] for line in cluster.read_text().splitlines()]
    assert verbs == ["delete", "apply", "wait", "wait", "get", "logs"]


def test_every_pod_of_a_rollout_runs_the_image_of_that_digest(cluster: Path):
    assert roll_out(cluster, f"registry.example/notification-ledger@{DIGEST}") == 0
    rendered = yaml.safe_load_all((cluster.parent / "rendered").read_text())
    pods = [one["spec"]["template"]["spec"] for one in rendered if one["kind"] in {"Deployment", "Job"}]
    images = {container["image"] for pod in pods for container in pod["containers"]}
    assert images == {f"registry.example/notification-ledger@{DIGEST}"}


def test_an_image_without_its_digest_is_not_rolled_out(cluster: Path):
    assert roll_out(cluster, "registry.example/notification-ledger:latest") == 2
    assert not cluster.exists()
