"""The inbox pages of the fake FCM: what each phone shows, and buttons that report as its app does."""

from collections.abc import Awaitable, Callable
from html import escape

from aiohttp import web

from providers.fakes.fcm_log import Push
from providers.fakes.pages import page

PAGE = 200
KINDS = {"opened": "Open", "delivered": "Report as delivered"}


class Inbox:
    """`report(push, kind)` is called for the buttons and returns the service's answer."""

    def __init__(self, requests: list[Push], report: Callable[[Push, str], Awaitable[int]]) -> None:
        self._requests = requests
        self._report = report

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/inbox", self._list),
            web.get(r"/inbox/{number:\d+}", self._show),
            web.post(r"/inbox/{number:\d+}/{kind}", self._act),
        ]

    async def _list(self, _: web.Request) -> web.Response:
        rows = "".join(_row(push, copies) for push, copies in shown(self._requests)[:PAGE])
        table = f"<table><tr><th>Time<th>Device<th>Title<th>Text<th>Copies</tr>{rows}</table>"
        return page("Phones", f"<p>{len(self._requests)} requests.</p>{table}" if rows else "<p>No push yet.</p>")

    async def _show(self, http: web.Request) -> web.Response:
        push = self._find(http)
        return page(push.said.get("title", ""), _details(push))

    async def _act(self, http: web.Request) -> web.Response:
        push, kind = self._find(http), http.match_info["kind"]
        if kind not in KINDS or not push.accepted:
            raise web.HTTPNotFound
        if await self._report(push, kind) != 204:
            raise web.HTTPBadGateway(text="the service did not take it")
        raise web.HTTPSeeOther(f"/inbox/{push.number}")

    def _find(self, http: web.Request) -> Push:
        number = int(http.match_info["number"][:18])
        if not 1 <= number <= len(self._requests):
            raise web.HTTPNotFound
        return self._requests[number - 1]


def shown(requests: list[Push]) -> list[tuple[Push, int]]:
    """Return what the phones show, the latest first, each with how many copies of it came: the last one is shown."""
    latest: dict[tuple[str, str], tuple[Push, int]] = {}
    for push in requests:
        if push.accepted:
            place = (push.fid, push.tag)
            copies = latest.pop(place)[1] if place in latest else 0
            latest[place] = (push, copies + 1)
    return list(latest.values())[::-1]


def _row(push: Push, copies: int) -> str:
    link = f'<a href="/inbox/{push.number}">{escape(push.said.get("title", "")) or "(no title)"}</a>'
    text = escape(push.said.get("body", ""))
    return f"<tr><td>{push.at:%Y-%m-%d %H:%M:%S}<td>{escape(push.fid)}<td>{link}<td>{text}<td>{copies}</tr>"


def _details(push: Push) -> str:
    """Return one push: what the person reads, what the app gets, and the buttons."""
    head = {
        "Device": push.fid,
        "Time": f"{push.at:%Y-%m-%d %H:%M:%S} UTC",
        "Message name": push.name,
        "Tag": push.tag,
        **{f"Data {name}": value for name, value in push.data.items()},
    }
    rows = "".join(f"<tr><th>{escape(name)}<td>{escape(value)}</tr>" for name, value in head.items())
    buttons = "".join(
        f'<form method="post" action="/inbox/{push.number}/{kind}"><button>{name}</button></form> '
        for kind, name in KINDS.items()
    )
    report = f"<p>{buttons}</p>" if push.accepted else ""
    said = f"<pre>{escape(push.said.get('body', ''))}</pre>"
    return f'<p><a href="/inbox">Phones</a></p>{said}{report}<table>{rows}</table>'
