"""What the forms of the console ask for: a field that is left empty is not given, and a time without offset is UTC."""

import re
from collections.abc import Collection
from urllib.parse import parse_qsl

from litestar.types import Scope

from api.parameters import Parameters
from templates.envelope import Fault, shown

# As browsers write it who have no say in the offset (HTML, section 2.3.5.7).
_LOCAL = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?", re.ASCII)


def filled_in(scope: Scope, *, known: Collection[str]) -> Parameters:
    """Read the query that a form has made; each name stands in it at most once."""
    pairs = parse_qsl(scope["query_string"].decode("latin-1"))
    names = [name for name, _ in pairs]
    twice = [Fault(shown(name), "must be given once") for name in dict.fromkeys(names) if names.count(name) > 1]
    return Parameters({name: as_utc(value.strip()) for name, value in pairs}, known=known, faults=twice)


def as_utc(value: str) -> str:
    """Return a time that a browser's own field has made with its offset, anything else as it is."""
    return f"{value}Z" if _LOCAL.fullmatch(value) else value
