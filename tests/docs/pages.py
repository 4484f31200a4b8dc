"""The pages of the documentation: their blocks and links, and how an output is compared with the one they show."""

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md")))

_FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(?P<title>.+)$", re.MULTILINE)


class Block(msgspec.Struct, frozen=True):
    """A fenced block: `words` stand behind its first fence (`sh`, `sh not-run`, `text output`)."""

    words: tuple[str, ...]
    text: str
    line: int


class Step(msgspec.Struct, frozen=True):
    """Commands that a reader would type, and what they show; None = whatever."""

    commands: str
    shows: str | None
    line: int


def blocks(page: Path) -> list[Block]:
    text = page.read_text("utf-8")
    return [
        Block(tuple(found["info"].split()), found["text"], text.count("\n", 0, found.start()) + 1)
        for found in _FENCE.finditer(text)
    ]


def steps(page: Path) -> Iterator[Step]:
    """The blocks that are run, each with the output that follows it."""
    all_blocks = blocks(page)
    for block, following in zip(all_blocks, [*all_blocks[1:], None], strict=False):
        if block.words == ("sh",):
            shown = following.text if following is not None and following.words == ("text", "output") else None
            yield Step(block.text, shown, block.line)


def links(page: Path) -> list[str]:
    """Where a page's links lead, those in its blocks left out."""
    return [found["target"] for found in _LINK.finditer(_FENCE.sub("", page.read_text("utf-8")))]


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives a page's headings."""
    titles = (found["title"] for found in _HEADING.finditer(_FENCE.sub("", page.read_text("utf-8"))))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def matches(shown: str, output: str) -> bool:
    """Whether an output is the one shown, where `…` stands for anything and white space for none."""
    pattern = ".*?".join(re.escape("".join(part.split())) for part in shown.split("…"))
    return re.fullmatch(pattern, "".join(output.split()), re.DOTALL) is not None
