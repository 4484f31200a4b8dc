"""The inbox of the fake of Twilio: every SMS that went out, with what became of it, and a way to answer it."""

from collections.abc import Callable, Mapping
from html import escape

from aiohttp import web

from providers.fakes.pages import page
from providers.fakes.twilio_log import Request, segments

PAGE = 200


class Inbox:
    """`statuses` are those that the messages have come to, by their sids; `answer(request, text)` answers one."""

    def __init__(
        self, requests: list[Request], statuses: Mapping[str, str], answer: Callable[[Request, str], None]
    ) -> None:
        self._requests = requests
        self._statuses = statuses
        self._answer = answer

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/inbox", self._list), web.post(r"/inbox/{number:\d+}/answer", self._take_answer)]

    async def _take_answer(self, http: web.Request) -> web.Response:
        number, text = int(http.match_info["number"][:18]), (await http.post()).get("text")
        if not 1 <= number <= len(self._requests) or not isinstance(text, str):
            raise web.HTTPNotFound
        self._answer(self._requests[number - 1], text)
        raise web.HTTPSeeOther("/inbox")

    async def _list(self, _: web.Request) -> web.Response:
        taken = [request for request in self._requests[: -PAGE * 2 : -1] if request.accepted][:PAGE]
        rows = "".join(self._row(request) for request in taken)
        head = "<tr><th>Time<th>From<th>To<th>Text<th>Segments<th>Status<th>Message sid<th>Answer</tr>"
        table = f"<p>{len(self._requests)} requests.</p><table>{head}{rows}</table>"
        return page("SMS inbox", table if taken else "<p>No SMS yet.</p>")

    def _row(self, request: Request) -> str:
        text = request.form.get("Body", "(no longer kept)")
        cells = (
            f"{request.at:%Y-%m-%d %H:%M:%S}",
            request.form.get("From") or request.form.get("MessagingServiceSid", ""),
            request.to,
            text,
            str(segments(text)),
            self._statuses.get(request.message_id, ""),
            request.message_id,
        )
        answer = (
            f'<form method="post" action="/inbox/{request.number}/answer">'
            '<input name="text" value="STOP" size="8" aria-label="Answer"><button>Send</button></form>'
        )
        return "<tr>" + "".join(f"<td>{escape(cell)}" for cell in cells) + f"<td>{answer}</tr>"
