"""The page of the logs names every event of the code, with its level, and no other."""

import ast
from collections.abc import Iterator

from tests.docs.pages import DOCS, ROOT

PACKAGES = ("api", "handlers", "ledger", "ops", "projections", "providers", "templates")
LEVELS = {"debug", "info", "warning", "error", "critical"}
# Whose event is its argument, and what its lines are.
PASSED_ON = {"_outage": "warning"}
OF_LIBRARIES = ("said_by_a_library", "of the library")


def events() -> set[tuple[str, str]]:
    """Every event that the code logs, with its level."""
    files = (path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if "fakes" not in path.parts)
    return {event for path in files for event in logged_in(ast.parse(path.read_text("utf-8")))}


def logged_in(tree: ast.AST) -> Iterator[tuple[str, str]]:
    for call in ast.walk(tree):
        match call:
            case ast.Call(func=ast.Attribute(attr=level), args=[ast.Constant(value=str(event)), *_]) if level in LEVELS:
                yield event, level
            case ast.Call(func=ast.Name(id=name), args=[ast.Constant(value=str(event))]) if name in PASSED_ON:
                yield event, PASSED_ON[name]


def test_the_page_names_every_event_with_its_level_and_no_other():
    lines = (DOCS / "reference" / "logs.md").read_text("utf-8").splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| `")]
    written = {(row[0].strip("`"), row[1]) for row in rows if len(row) == 4}
    assert written == events() | {OF_LIBRARIES}
