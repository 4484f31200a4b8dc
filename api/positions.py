"""/v1/positions: the status messages, read again from any position of the log."""

from uuid import UUID

import msgspec
from litestar import get

from api.auth import Scope
from api.parameters import Parameters
from api.problems import MALFORMED, NEWER_RELEASE
from api.schemas import FeedRange
from api.services import Call, services_of
from handlers.status_messages import StatusMessage, StatusMessages

LIMIT = 100
MOST = 500
_LAST = 10**18 - 1


class Feed(msgspec.Struct, frozen=True):
    """A stretch of the log, in order; the messages are those that are published, to the id.

    `next` is the last position that was looked at, to be given as `after`; the end is reached when it is the same as
    `after`. A page may be empty before that: most facts have no message. It may also look at fewer than `limit`:
    16 MiB of facts end it. `left_out` are notifications whose facts in
    this stretch cannot be told, for they cannot be read.
    """

    messages: list[StatusMessage]
    next: int
    left_out: list[UUID]


@get(
    "/v1/positions",
    scopes=[Scope.OPERATIONS],
    tags=["operations"],
    summary="Read the status messages again, from any position",
    query=FeedRange,
    problems=[MALFORMED, NEWER_RELEASE],
)
async def list_positions(request: Call) -> Feed:
    asked = Parameters.of_query(request.scope, known={"after", "limit"})
    after = asked.whole("after", least=0, most=_LAST) or 0
    limit = asked.whole("limit", least=1, most=MOST) or LIMIT
    asked.done()
    page = await StatusMessages(services_of(request).ledger.store).after(after, limit=limit)
    return Feed(page.messages, page.next, page.left_out)
