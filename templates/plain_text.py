"""The text of a mail made from its HTML, for those who are shown no HTML: words, lists, tables and where links lead."""

import re
from html.parser import HTMLParser

_BLOCKS = frozenset(
    {
        "address",
        "article",
        "aside",
        "blockquote",
        "body",
        "caption",
        "dd",
        "div",
        "dl",
        "dt",
        "fieldset",
        "figure",
        "footer",
        "form",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "header",
        "hr",
        "html",
        "li",
        "main",
        "nav",
        "ol",
        "p",
        "pre",
        "section",
        "table",
        "tbody",
        "tfoot",
        "thead",
        "tr",
        "ul",
    }
)
# An empty line stands around these; the other blocks begin a line.
_APART = frozenset({"blockquote", "dl", "h1", "h2", "h3", "h4", "h5", "h6", "ol", "p", "pre", "table", "ul"})
_UNSEEN = frozenset({"head", "script", "style", "template", "title"})
_VOID = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
)
_HIDDEN = re.compile(r"display\s*:\s*none", re.IGNORECASE)
_SPACES = re.compile(r"[ \t\r\n\f]+")


def plain_text(html: str) -> str:
    """Return the words of a page as text; an address of a link stands behind its words, in brackets.

    What is not seen is left out: the head, and what `display:none` hides. Lines are not folded.
    """
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return reader.text()


class _Reader(HTMLParser):
    """Collects lines; what cannot be read as HTML is read as a browser would, as far as its words go."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[str] = [""]
        self._hidden: list[str] = []
        self._links: list[tuple[str, str]] = []

    def text(self) -> str:
        lines = (line.rstrip() for line in self._lines)
        return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n") + "\n"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if self._hidden or tag in _UNSEEN or _HIDDEN.search(given.get("style") or ""):
            if tag not in _VOID:
                self._hidden.append(tag)
        elif tag == "br":
            self._lines.append("")
        elif tag == "img":
            self._say(given.get("alt") or "")
        elif tag in {"td", "th"} and self._lines[-1]:
            self._lines[-1] = f"{self._lines[-1].rstrip()}  "
        elif tag in _BLOCKS:
            self._break(tag)
            self._lines[-1] += "- " if tag == "li" else ""
        elif tag == "a":
            self._links.append((given.get("href") or "", self._lines[-1]))

    def handle_endtag(self, tag: str) -> None:
        if self._hidden:
            if tag in self._hidden:
                del self._hidden[len(self._hidden) - 1 - self._hidden[::-1].index(tag) :]
        elif tag in _BLOCKS:
            self._break(tag)
        elif tag == "a" and self._links:
            target, before = self._links.pop()
            words = self._lines[-1].removeprefix(before).strip()
            self._say(f" ({target})" if target and words and words != target else target if not words else "")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self._say(_SPACES.sub(" ", data))

    def _say(self, words: str) -> None:
        line = self._lines[-1]
        self._lines[-1] = line + (words.lstrip(" ") if not line or line.endswith(" ") else words)

    def _break(self, tag: str) -> None:
        if self._lines[-1].strip() not in {"", "-"}:
            self._lines.append("")
        if tag in _APART and len(self._lines) > 1 and self._lines[-1] == "":
            self._lines.append("")
