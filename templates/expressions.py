"""The catalogue's expression language: dotted paths, `a | b` for the first that is present, `?` for may be absent."""

import re
from collections.abc import Collection, Mapping
from typing import Any

import msgspec

_PATH = re.compile(r"[a-z]+(?:\.[A-Za-z_][A-Za-z0-9_]*)*")


class Expression(msgspec.Struct, frozen=True):
    """Where a value stands. `paths` are tried in turn; null and the empty string count as absent."""

    paths: tuple[tuple[str, ...], ...]
    optional: bool

    def read(self, scope: Mapping[str, Any]) -> Any:
        """Return the first value that is present, or None."""
        for path in self.paths:
            value: Any = scope
            for key in path:
                value = value.get(key) if isinstance(value, dict) else None
            if value is not None and value != "":
                return value
        return None

    def where(self, item: str) -> str:
        """Return the path to name in a fault; `item` is the path of the list's element, where there is one."""
        root, *keys = self.paths[0]
        return ".".join([item if root == "item" else root, *keys])

    def expected(self) -> str:
        """Return what to say when it is absent."""
        others = " or ".join(".".join(path) for path in self.paths[1:])
        return f"is required (or {others})" if others else "is required"


def compile_expression(source: str, *, roots: Collection[str]) -> Expression:
    """Compile `payload.userEmail | item.email ?`; `roots` are the names it may start with. Raises ValueError."""
    text = source.strip()
    paths = [part.strip() for part in text.removesuffix("?").split("|")]
    for path in paths:
        if not _PATH.fullmatch(path):
            raise ValueError(f"{source!r} is not a dotted path, or several with | between them")
        if path.split(".")[0] not in roots:
            raise ValueError(f"{source!r} must start with {' or '.join(sorted(roots))}")
    return Expression(tuple(tuple(path.split(".")) for path in paths), optional=text.endswith("?"))
