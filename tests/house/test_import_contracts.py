import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONFIGURATION = PYPROJECT["tool"]["importlinter"]
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")

ACTS = "Imports point one way on the side that acts"
ANSWERS = "Imports point one way on the side that answers"
READ_SIDE = "The write side never reads the read side"
PROJECTIONS = "Projections know the ledger alone"
OPS = "Only ops knows everything, and nobody knows ops"
CHOICE = "Only ops chooses a provider"
PSYCOPG = "psycopg stays in the modules that own SQL"
VENDORS = "Vendor SDKs stay in providers"
BROKER = "The broker is known to handlers and ops"
LITESTAR = "Litestar is known to what serves HTTP"
CYCLES = "No cycles"

OFFENCES = [
    (ACTS, {"ledger/offender.py": "import templates"}),
    (ACTS, {"templates/offender.py": "import providers"}),
    (ACTS, {"providers/offender.py": "import handlers"}),
    (ACTS, {"handlers/offender.py": "import api"}),
    (ANSWERS, {"ledger/offender.py": "import projections"}),
    (ANSWERS, {"projections/offender.py": "import api"}),
    (READ_SIDE, {"handlers/offender.py": "import projections"}),
    (PROJECTIONS, {"projections/offender.py": "import providers"}),
    (OPS, {"api/offender.py": "import ops"}),
    (CHOICE, {"providers/vendor.py": "", "handlers/offender.py": "from providers import vendor"}),
    (CHOICE, {"api/offender.py": "from providers import fakes"}),
    (PSYCOPG, {"handlers/offender.py": "import psycopg"}),
    (PSYCOPG, {"ledger/offender.py": "import psycopg_pool"}),
    (VENDORS, {"ops/offender.py": "import aiobotocore"}),
    (BROKER, {"api/offender.py": "import aio_pika"}),
    (LITESTAR, {"handlers/offender.py": "import litestar"}),
    (LITESTAR, {"providers/offender.py": "import litestar"}),
    (CYCLES, {"ledger/one.py": "from ledger import other", "ledger/other.py": "from ledger import one"}),
]


@pytest.mark.parametrize(("contract", "files"), OFFENCES)
def test_an_import_that_breaks_a_contract_is_named(contract: str, files: dict[str, str], tmp_path: Path):
    for package in CONFIGURATION["root_packages"]:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=_all_but_python)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name, line in files.items():
        (tmp_path / name).write_text(f"{line}\n")
    assert f"{contract} BROKEN" in _lint_imports(tmp_path)


def test_every_contract_is_proven():
    assert {contract for contract, _ in OFFENCES} == {contract["name"] for contract in CONFIGURATION["contracts"]}


def test_every_package_is_under_contract():
    packages = {name.split(".")[0] for name in PYPROJECT["tool"]["setuptools"]["packages"]}
    assert packages == set(CONFIGURATION["root_packages"])


def _lint_imports(folder: Path) -> str:
    command = [str(LINT_IMPORTS), "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120).stdout


def _all_but_python(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if not name.endswith(".py") and not (Path(folder) / name / "__init__.py").exists()]
