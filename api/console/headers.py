"""What browsers are told of every page of the console: to run nothing that is not ours, and to keep nothing."""

from litestar.types import Message, Scope

from api.sessions import is_console

# A page may bring others in the place of these: whatever stands in its answer stays.
_HEADERS = {
    b"content-security-policy": (
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        b"frame-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    b"cache-control": b"no-store",
    b"x-content-type-options": b"nosniff",
    # Not `no-referrer`: a form of such a page would say `Origin: null` (Fetch, section 3.2), as a stranger's does.
    b"referrer-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"x-robots-tag": b"noindex, nofollow",
}


async def harden(message: Message, scope: Scope) -> None:
    """Add them to an answer (a `before_send` hook, so that an error's answer has them too)."""
    if message["type"] != "http.response.start" or not is_console(scope["path"]):
        return
    given = {name.lower() for name, _ in message["headers"]}
    missing = [(name, value) for name, value in _HEADERS.items() if name not in given]
    message["headers"] = [*message["headers"], *missing]
