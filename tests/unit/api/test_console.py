"""What the console ships: nothing of it asks another host for anything, or needs what its own policy forbids."""

import re
from pathlib import Path

import pytest

from api.console.assets import url_of

ROOT = Path(__file__).parents[3]
# What is said stands in frames, whose own policy lets styles in and nothing else.
FRAMES = {"template_frame.html"}
PAGES = sorted(path for path in (ROOT / "api/console/pages").iterdir() if path.name not in FRAMES)
STATIC = sorted((ROOT / "api/console/static").iterdir())


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_page_has_no_script_or_style_of_its_own_and_leads_to_no_other_host(path: Path):
    text = path.read_text("utf-8")
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|\shx-on|javascript:", text)
    assert re.findall(r"<script(?! src=\"{{ asset\()", text) == []
    assert not re.search(r"(?:src|href|action|hx-\w+)=[\"'](?:https?:)?//", text)
    assert "|safe" not in text
    assert "autoescape" not in text


def test_htmx_is_the_release_that_is_pinned_and_has_its_licence_beside_it():
    pinned = re.search(r"^HTMX := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert pinned is not None
    assert f'version:"{pinned[1]}"' in (ROOT / "api/console/static/htmx.min.js").read_text()
    assert (ROOT / "api/console/static/htmx-LICENSE.txt").read_text().startswith("Zero-Clause BSD")


def test_what_is_shipped_is_small_and_asked_for_under_a_name_that_changes_with_it():
    assert sum(path.stat().st_size for path in STATIC) < 200_000
    assert re.fullmatch(r"/console/static/htmx\.min\.[0-9a-f]{16}\.js", url_of("htmx.min.js"))
