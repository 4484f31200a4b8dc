"""What the routes need, by plain constructor arguments, and the request as they see it."""

from collections.abc import Mapping

import msgspec
from litestar import Request
from litestar.datastructures import State

from api.health import Readiness
from api.problems import AnyRequest
from api.sessions import Sessions
from api.tail import Tail
from api.tokens import Authenticator, Caller
from handlers.bulk import Bulk
from handlers.dead_letters import DeadLetters
from handlers.dry_run import DryRun
from handlers.intake import TakeIn
from handlers.metrics import Metrics
from handlers.pauses import Pauses
from handlers.receive import Receive
from handlers.templates import Templates
from handlers.test_sends import SendTest
from handlers.waiting import Reaching
from ledger.archive import Archive
from ledger.keys import Keys
from ledger.ledger import Ledger
from ledger.policy import AllowList
from ledger.reads import Reads
from ledger.set_aside import SetAside
from providers.contract import Callbacks, Receipts, Replies
from templates.message_schemas import Schema

Call = Request[Caller, None, State]


class Services(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the API is made of: `reach` says how far providers may be called, `ses` and `twilio` read what
    those report, `replies` what people answer, `receipts` what apps report. `schemas` are those of the messages, by
    type.
    """

    ledger: Ledger
    archive: Archive
    keys: Keys
    reads: Reads
    set_aside: SetAside
    take_in: TakeIn
    dry_run: DryRun
    bulk: Bulk
    schemas: Mapping[str, Schema]
    dead_letters: DeadLetters
    receive: Receive
    pauses: Pauses
    templates: Templates
    send_test: SendTest
    test_recipients: AllowList
    reach: Reaching
    ses: Callbacks
    twilio: Callbacks
    replies: Replies
    receipts: Receipts
    authenticator: Authenticator
    sessions: Sessions
    tail: Tail
    readiness: Readiness
    metrics: Metrics


def services_of(request: AnyRequest) -> Services:
    """Return what the app was made with."""
    services: Services = request.app.state["services"]
    return services
