"""The dialect of kustomize before 4.0, the only one that Debian 12's kubectl knows (1.20, which holds 2.0.3)."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

FILE = "kustomization.yaml"


def translate(root: Path) -> None:
    """Rewrite every kustomization below a folder, so that it builds what it builds today."""
    for path in sorted(root.rglob(FILE)):
        _translate(path.parent)


def _translate(folder: Path) -> None:
    given = yaml.safe_load((folder / FILE).read_text())
    if given.get("kind") == "Component":
        return  # unknown then; what it holds is taken over by those that use it
    for number, component in enumerate(given.pop("components", [])):
        _take_over(folder / component, folder, given, prefix=str(number))
    listed = given.pop("resources", [])
    given["bases"] = [name for name in listed if (folder / name).is_dir()]
    given["resources"] = [name for name in listed if (folder / name).is_file()]
    given["patchesStrategicMerge"] = [
        name for patch in given.pop("patches", []) for name in _patches(folder, patch, given["resources"])
    ]
    for generator in given.get("configMapGenerator", []):
        given |= {"generatorOptions": generator.pop("options", {})}
    (folder / FILE).write_text(yaml.safe_dump(given))


def _take_over(component: Path, folder: Path, given: dict[str, Any], *, prefix: str) -> None:
    """Make what a component holds the own of where it is used; its patches come first there, as they do today."""
    held = yaml.safe_load((component / FILE).read_text())

    def copied(name: str) -> str:
        copy = f"{prefix}-{name}"
        shutil.copy(component / name, folder / copy)
        return copy

    given["resources"] = [*given.get("resources", []), *(copied(name) for name in held.get("resources", []))]
    patches = [{"path": copied(patch["path"])} for patch in held.get("patches", [])]
    given["patches"] = [*patches, *given.get("patches", [])]
    mine = {one["name"]: one for one in given.get("configMapGenerator", [])}
    for generator in held.get("configMapGenerator", []):
        mine[generator["name"]]["literals"] += generator["literals"]


def _patches(folder: Path, patch: dict[str, Any], resources: list[str]) -> Iterator[str]:
    """A patch, or a copy of it for each object that it is to change."""
    if "target" not in patch:
        yield patch["path"]
        return
    content = yaml.safe_load((folder / patch["path"]).read_text())
    for one in (one for name in resources for one in yaml.safe_load_all((folder / name).read_text())):
        if one["kind"] in patch["target"]["kind"].split("|"):
            copy = f"{one['metadata']['name']}-{patch['path']}"
            named = {
                "apiVersion": one["apiVersion"],
                "kind": one["kind"],
                "metadata": {"name": one["metadata"]["name"]},
            }
            (folder / copy).write_text(yaml.safe_dump(content | named))
            yield copy
