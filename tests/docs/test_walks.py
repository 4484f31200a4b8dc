from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, blocks, matches, steps
from tests.docs.sandbox import STARTING, Sandbox
from tests.docs.shell import Shell

# What the words behind a fence of commands may be; anything else would be a block that nobody runs and nobody meant so.
SHELL = {("sh",), ("sh", "not-run"), ("sh", "aws"), ("sh", "migrate"), ("sh", "rules"), STARTING}
WALKS = [page for page in PAGES if any(steps(page))]


@pytest.mark.parametrize("page", WALKS, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_of_a_page_does_what_the_page_says(page: Path, sandbox: Sandbox):
    with Shell(ROOT, sandbox.environment, sandbox.instead) as shell:
        for step in steps(page):
            shell.walk(step)


def test_no_block_of_commands_is_left_out_by_a_slip():
    words = {block.words for page in PAGES for block in blocks(page) if block.words[:1] in {("sh",), ("bash",)}}
    assert words <= SHELL


def test_no_page_shows_an_output_that_nothing_makes():
    for page in PAGES:
        found = blocks(page)
        for before, block in zip([None, *found], found, strict=False):
            if block.words == ("text", "output"):
                assert before is not None, page
                assert before.words == ("sh",), f"{page}:{block.line}"


def test_an_ellipsis_stands_for_anything_and_nothing_else_does():
    assert matches('{"id": "…", "n": 1}', '{"id":"abc","n":1}\n')
    assert not matches('{"id": "…", "n": 1}', '{"id":"abc","n":2}\n')
    assert not matches("delivered", "not delivered")
