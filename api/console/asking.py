"""What the forms of the console ask for: a field that is left empty is not given, and a time without offset is UTC."""

import re
from collections.abc import Collection
from typing import Final
from urllib.parse import parse_qsl

from litestar.types import Scope

from api.parameters import Parameters
from api.services import Call
from api.sessions import form_of
from templates.envelope import Fault, is_identifier, shown

NO_REASON: Final = "Say why you look: 1 to 200 printable characters. It is kept with your name."

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


async def reason_of(request: Call) -> str | None:
    """Return why somebody looks at what is personal; None where they do not say (`NO_REASON`)."""
    reason = (await form_of(request)).get("reason", "").strip()
    return reason if is_identifier(reason) else None
