"""Requests for every page of the console, as the browser of somebody who is signed in sends them."""

import re
from collections.abc import Iterator, Sequence
from hashlib import sha256
from urllib.parse import urlencode
from uuid import UUID

from api.console.routes import ROUTES
from api.sessions import SESSION
from bench import million
from bench.caller import http
from bench.service import Service
from ledger.keys import Identity
from ledger.suppression import nothing
from ledger.values import Channel
from tests.support.postgres import IDENTITY_KEY

# Asked for by pages that are there before them (the frame's words are tried in a process of its own); what never ends;
# and what is there only while many are acted on.
_PARTS = {
    "/console/static/{name:str}",
    "/console/templates/{name:str}/preview/frame",
    "/console/live/facts",
    "/console/bulk/{action_id:uuid}",
}
_FORM = "application/x-www-form-urlencoded"


def asked(filled: Service, led: Sequence[UUID]) -> Iterator[bytes]:
    """Yield a request for each page, and for what callers say; `led` have facts."""
    identity, session = Identity(IDENTITY_KEY), f"{SESSION}={filled.token}"
    listed = nothing(identity, Channel.EMAIL, identity.address_hash(million.FEW.email)).stream
    there = {
        "notification_id": led[0],
        "user_id": million.MANY.user_id,
        "suppression_id": listed,
        "name": "large",
    }
    paths = sorted(path for route in ROUTES if "GET" in route.http_methods for path in route.paths - _PARTS)
    for path in [*paths, "/console/statistics?last=month"]:
        yield http("GET", re.sub(r"{(\w+)(:\w+)?}", lambda found: str(there[found[1]]), path), cookie=session)
    csrf = identity.signature("console", sha256(filled.token.encode()).digest()).hex()
    for words in (million.MANY.phone, million.MANY.order, million.FEW.email, "m-1000", "nobody@example.com", ""):
        form = urlencode({"csrf": csrf, "text": words}).encode()
        yield http("POST", "/console", body=form, kind=_FORM, cookie=session)
