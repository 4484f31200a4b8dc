"""The inbox pages of the fakes: every mail that went out, and buttons that open, click or report what SES has."""

from collections.abc import Callable
from html import escape

from aiohttp import web

from providers.fakes.pages import page
from providers.fakes.ses_log import Request

PAGE = 200
KINDS = {"open": "Open", "click": "Click", "complaint": "Complaint"}
# A mail is a stranger's text: it runs nothing, fetches nothing, and its links open elsewhere.
MAIL_POLICY = (
    "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"
)
SANDBOX = "allow-popups allow-popups-to-escape-sandbox"


class Inbox:
    """`publish(eventType, request)` is called for the buttons."""

    def __init__(self, requests: list[Request], publish: Callable[[str, Request], None]) -> None:
        self._requests = requests
        self._publish = publish

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/inbox", self._list),
            web.get(r"/inbox/{number:\d+}", self._show),
            web.get(r"/inbox/{number:\d+}/html", self._html),
            web.post(r"/inbox/{number:\d+}/{kind}", self._act),
        ]

    async def _list(self, _: web.Request) -> web.Response:
        mails = [request for request in self._requests[: -PAGE * 2 : -1] if request.accepted][:PAGE]
        rows = "".join(row(request) for request in mails)
        table = f"<table><tr><th>Time<th>To<th>Subject<th>Message id</tr>{rows}</table>"
        return page("Inbox", f"<p>{len(self._requests)} requests.</p>{table}" if mails else "<p>No mail yet.</p>")

    async def _show(self, http: web.Request) -> web.Response:
        request = self._find(http)
        return page(subject(request), mail(request))

    async def _html(self, http: web.Request) -> web.Response:
        body = self._find(http).body
        html = body.content.simple.body.html if body else None
        text = f'<!doctype html><base target="_blank">{html.data if html else ""}'
        return web.Response(text=text, content_type="text/html", headers={"Content-Security-Policy": MAIL_POLICY})

    async def _act(self, http: web.Request) -> web.Response:
        request = self._find(http)
        kind = KINDS.get(http.match_info["kind"])
        if kind is None or not request.reports:
            raise web.HTTPNotFound
        self._publish(kind, request)
        raise web.HTTPSeeOther(f"/inbox/{request.number}")

    def _find(self, http: web.Request) -> Request:
        number = int(http.match_info["number"][:18])
        if not 1 <= number <= len(self._requests):
            raise web.HTTPNotFound
        return self._requests[number - 1]


def subject(request: Request) -> str:
    return request.body.content.simple.subject.data if request.body else "(no longer kept)"


def row(request: Request) -> str:
    link = f'<a href="/inbox/{request.number}">{escape(subject(request)) or "(no subject)"}</a>'
    return (
        f"<tr><td>{request.at:%Y-%m-%d %H:%M:%S}<td>{escape(request.to)}<td>{link}<td>{escape(request.message_id)}</tr>"
    )


def mail(request: Request) -> str:
    """Return one mail: its head, its HTML in a sandboxed frame, its text, and the buttons."""
    text = request.body.content.simple.body.text if request.body else None
    head = {
        "From": request.body.sender if request.body else "",
        "To": request.to,
        "Time": f"{request.at:%Y-%m-%d %H:%M:%S} UTC",
        "Provider": request.provider,
        "Message id": request.message_id,
        "Configuration set": (request.body and request.body.configuration_set_name) or "",
        **{f"Tag {name}": value for name, value in request.tags.items()},
    }
    rows = "".join(f"<tr><th>{escape(name)}<td>{escape(value)}</tr>" for name, value in head.items())
    if request.unsubscribe:
        url = escape(request.unsubscribe)
        rows += f'<tr><th>List-Unsubscribe<td><a href="{url}" target="_blank" rel="noreferrer">{url}</a></tr>'
    buttons = "".join(
        f'<form method="post" action="/inbox/{request.number}/{kind}"><button>{name}</button></form> '
        for kind, name in KINDS.items()
    )
    frame = f'<iframe sandbox="{SANDBOX}" src="/inbox/{request.number}/html" title="HTML part"></iframe>'
    plain = f"<h2>Text</h2><pre>{escape(text.data if text else '')}</pre>"
    events = f"<p>Send an event: {buttons}</p>" if request.reports else ""
    top = f'<p><a href="/inbox">Inbox</a></p><table>{rows}</table>{events}'
    return f"{top}<h2>HTML</h2>{frame}{plain}"
