"""A style sheet becomes `style` attributes: much mail software shows no other."""

import re
from collections.abc import Sequence
from functools import lru_cache
from html import escape
from html.parser import HTMLParser

from css_inline import CSSInliner

# What Jinja reads, which may stand anywhere, also inside of a tag.
_JINJA = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
_START_TAG = re.compile(r"<[a-zA-Z][a-zA-Z0-9]*(?=[\s/>])(?:\"[^\"]*\"|'[^']*'|[^'\">])*>")
_STYLE = re.compile(r"\sstyle\s*=\s*(?:\"[^\"]*\"|'[^']*'|[^\s'\">]+)", re.IGNORECASE)
# Neither occurs in a template: they stand for what Jinja reads, and number the tags.
_HELD, _HELD_AGAIN = "\ue000{}\ue001", re.compile("\ue000([0-9]+)\ue001")
_NUMBER = "data-inlined"


@lru_cache(maxsize=256)
def inline(html: str, css: str) -> str:
    """Return a template of HTML with the rules of a style sheet in the `style` attributes of its own tags.

    All else stays as it is written, byte for byte; what an attribute says already is stronger than any rule. A file is
    looked at alone: a rule for `td p` finds a `p` in a `td` of the same file. The same input gives the same bytes.
    Raises ValueError for a style sheet that cannot be read.
    """
    if not css.strip():
        return html
    held: list[str] = []

    def hold(match: re.Match[str]) -> str:
        held.append(match[0])
        return _HELD.format(len(held) - 1)

    plain = _JINJA.sub(hold, html)
    styles = _styles(plain, css)
    tags = iter(range(len(styles)))
    styled = _START_TAG.sub(lambda match: _styled(match[0], styles[next(tags)]), plain)
    return _HELD_AGAIN.sub(lambda match: held[int(match[1])], styled)


def _styles(html: str, css: str) -> Sequence[str | None]:
    """Return the style of each start tag in turn; None where it has none, or an HTML parser sees no tag there."""
    numbers = iter(range(len(html)))
    numbered = _START_TAG.sub(lambda match: _numbered(match[0], next(numbers)), html)
    inliner = CSSInliner(inline_style_tags=False, keep_style_tags=True, load_remote_stylesheets=False, extra_css=css)
    whole = "<html" in html.lower()
    seen = _Styles([None] * next(numbers))
    seen.feed(inliner.inline(numbered) if whole else inliner.inline_fragment(numbered, css))
    return seen.styles


def _numbered(tag: str, number: int) -> str:
    end = -2 if tag.endswith("/>") else -1
    return f'{tag[:end]} {_NUMBER}="{number}"{tag[end:]}'


def _styled(tag: str, style: str | None) -> str:
    if style is None:
        return tag
    bare = _STYLE.sub("", tag, count=1)
    end = -2 if bare.endswith("/>") else -1
    return f'{bare[:end].rstrip()} style="{style}"{bare[end:]}'


class _Styles(HTMLParser):
    """Reads which numbered tag has which style."""

    def __init__(self, styles: list[str | None]) -> None:
        super().__init__()
        self.styles = styles

    def handle_starttag(self, _tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if (number := found.get(_NUMBER)) is not None and (style := found.get("style")) is not None:
            self.styles[int(number)] = escape(style.replace('"', "'"), quote=False).strip().rstrip(";")
