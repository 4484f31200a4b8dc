import re
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import click
import pytest

from api.app import ROUTES
from handlers.ingest import refusal_of
from handlers.intake import Conflicting
from ledger.mapping import TOPICS
from ledger.status import Status
from ops import settings
from ops.cli import main as program
from providers.fcm import CODES
from templates.envelope import MessageRejectedError
from tests.docs import generate
from tests.docs.pages import DOCS, PAGES, ROOT, anchors, blocks, links

TEXTS = {page: page.read_text("utf-8") for page in {*PAGES, *generate.pages()}}
REFERENCE = DOCS / "reference"
# A pattern, what FCM answers, what libpq and the AWS SDK read for themselves, and what the suite is told.
OTHER_NAMES = {
    "NAME_FILE",
    *CODES,
    "DATABASE_CA",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_ACCESS_KEY_ID",
    "TEST_FUZZ_EXAMPLES",
}
# What the pipeline is told.
VARIABLES = set(re.findall(r"vars\.(\w+)", "".join(path.read_text() for path in ROOT.glob(".github/workflows/*.yml"))))
AWS = ("sh", "aws")
_SETTING = re.compile(r"`([A-Z][A-Z_]{2,})(?:_FILE)?(?:=[^`]*)?`")
_METRIC = re.compile(r"\bnotification_(?!(?:log|ledger|id)\b|log_)[a-z_]+")
# What queries ask of a histogram.
_BESIDE = re.compile(r"_(?:bucket|count|sum)$")
_ROUTE = re.compile(r"`(?:GET|POST)?,? ?(/(?:v1|callbacks|health|metrics|schema)[^`? ]*)")
_COMMAND = re.compile(r"notification-ledger (?:--settings \S+ )?([a-z][a-z-]*(?: [a-z][a-z-]*)?)")
_PAGE_OF_ANOTHER = re.compile(r"^[a-z]+:")


def part(page: str, head: str) -> str:
    """The text of a page from a heading to its next one."""
    return (REFERENCE / page).read_text("utf-8").split(f"\n## {head}\n", 1)[1].split("\n## ", 1)[0]


PROMISES = REFERENCE / "promises.md"


@pytest.mark.parametrize("page", [page for page in generate.pages() if page != PROMISES], ids=lambda page: page.name)
def test_a_generated_part_says_what_the_code_says_now(page: Path):
    assert generate.completed(TEXTS[page]) == TEXTS[page], "run `make docs` and commit what it writes"


def test_every_generated_part_stands_in_one_page():
    stands = Counter(name for page in generate.pages() for name in generate.parts_in(TEXTS[page]))
    assert stands == Counter(generate.PARTS.keys())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_within_the_documentation_leads_somewhere(page: Path):
    for link in links(page):
        if _PAGE_OF_ANOTHER.match(link):
            continue
        parts = urlsplit(link)
        target = (page.parent / parts.path).resolve() if parts.path else page
        assert target.exists(), link
        if parts.fragment:
            assert parts.fragment in anchors(target), link


def test_every_page_can_be_reached_from_the_readme():
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached:
            continue
        reached.add(page)
        if page.suffix == ".md":
            inside = [link.partition("#")[0] for link in links(page) if not _PAGE_OF_ANOTHER.match(link)]
            waiting += [(page.parent / link).resolve() for link in inside if link]
    assert {*PAGES, REFERENCE / "asyncapi.yaml"} <= reached


def test_every_setting_that_a_page_names_exists():
    known = {one.name for one in settings.described()} | {f"{one.name}_FILE" for one in settings.described()}
    for page, text in TEXTS.items():
        named = {name for name in _SETTING.findall(text) if "_" in name or name in known}
        assert named - OTHER_NAMES - VARIABLES <= known, page


def test_every_metric_that_a_page_names_exists():
    known = {generate.exposed_name(metric) for metric in generate.metrics()} | {"notification_build_info"}
    for page, text in TEXTS.items():
        assert {_BESIDE.sub("", name) for name in _METRIC.findall(text)} <= known, page


def test_every_route_that_a_page_names_exists():
    known = {re.sub(r"{\w+(:\w+)?}", "*", path) for route in ROUTES for path in route.paths}
    known |= {"/metrics", "/schema", "/schema/openapi.yaml"}
    for page, text in TEXTS.items():
        for route in _ROUTE.findall(text):
            assert re.sub(r"{\w+}", "*", route) in known, f"{page}: {route}"


def test_every_command_that_a_page_calls_exists():
    context = click.Context(program, info_name="notification-ledger")
    known = {re.sub(r" [^a-z].*", "", name) for name, _ in generate.commands(program, context)}
    for page, text in TEXTS.items():
        called = re.findall(rf"`{_COMMAND.pattern}", text)
        called += [one for block in blocks(page) if block.words != AWS for one in _COMMAND.findall(block.text)]
        assert {one for one in called if one not in known and one.split()[0] not in known} == set(), page


def test_every_status_is_explained_and_nothing_else_is():
    table = (REFERENCE / "statuses.md").read_text("utf-8").split("\n## ", 1)[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [status.value for status in Status]


def test_every_topic_has_a_heading_of_its_own():
    headings = re.findall(r"^## (\w+\.\w+)$", (REFERENCE / "facts.md").read_text("utf-8"), re.MULTILINE)
    assert headings == list(TOPICS)


def test_the_promises_name_no_test_that_is_gone_and_leave_none_without_the_tests_it_has():
    """Not each new test at once: `make docs` adds those."""
    held = generate.tests_of_promises()
    for number in generate._PROMISES:
        told = part("promises.md", f"I{number}")
        named = set(re.findall(r"^- (.+) \(`(.+)`\)$", told, re.MULTILINE))
        assert named <= {(name, path) for path, name in held.get(number, [])}, f"I{number}: run `make docs`"
        assert bool(named) == (number in held), f"I{number}: run `make docs`"


def test_every_promise_is_there():
    headings = re.findall(r"^## I(\d+)$", (REFERENCE / "promises.md").read_text("utf-8"), re.MULTILINE)
    assert [int(number) for number in headings] == list(generate._PROMISES)
    assert set(generate.tests_of_promises()) <= set(generate._PROMISES)


def test_the_reasons_of_dead_letters_are_those_that_the_code_gives():
    rows = re.findall(r"^\| (`.*?`) \|", TEXTS[DOCS / "how-to" / "dead-letters.md"], re.MULTILINE)
    written = {word for row in rows for word in re.findall(r"`(\w+)`", row)}
    code = "".join((ROOT / "handlers" / name).read_text("utf-8") for name in ("ingest.py", "intake.py"))
    of_messages = re.findall(
        r"`(\w+)`", (MessageRejectedError.__doc__ or "").split("`reason` is one of")[1].split(".")[0]
    )
    given = {*of_messages, *re.findall(r'(?:reason=|MessageRejectedError\()"(\w+)"', code), conflict_reason()}
    assert given - {"request"} == written


def conflict_reason() -> str:
    return refusal_of(Conflicting(b"", "", "", None)).reason


def test_each_decision_has_a_number_of_its_own_and_is_listed():
    records = sorted(path.name for path in (DOCS / "decisions").glob("0*.md"))
    numbers = [int(name[:4]) for name in records]
    assert len(set(numbers)) == len(numbers)
    assert [link for link in links(DOCS / "decisions" / "README.md") if link.startswith("0")] == records
    for name in records:
        assert (DOCS / "decisions" / name).read_text("utf-8").startswith(f"# {int(name[:4])}. ")
