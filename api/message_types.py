"""/v1/message-types: which messages the service knows, and what each must look like."""

from typing import Any

import msgspec
from litestar import Response, get
from litestar.params import FromPath

from api.auth import ANY_TOKEN
from api.parameters import Parameters
from api.problems import MALFORMED, NOT_FOUND, ProblemError
from api.services import Call, services_of

_MEDIA_TYPE = "application/schema+json"
_FIRST = ".v1"


class MessageType(msgspec.Struct, frozen=True):
    """A message of the platform that the service knows, with its version, and where its JSON Schema is."""

    type: str
    schema: str


class MessageTypes(msgspec.Struct, frozen=True):
    """Every message that the service knows."""

    message_types: list[MessageType]


@get(
    "/v1/message-types",
    scopes=ANY_TOKEN,
    tags=["messages"],
    summary="List the messages that the service knows",
    problems=[MALFORMED],
)
async def list_message_types(request: Call) -> MessageTypes:
    Parameters.of_query(request.scope, known=()).done()
    known = services_of(request).schemas
    return MessageTypes([MessageType(name, f"/v1/message-types/{name}/schema") for name in known])


@get(
    "/v1/message-types/{message_type:str}/schema",
    scopes=ANY_TOKEN,
    tags=["messages"],
    media_type=_MEDIA_TYPE,
    summary="The JSON Schema (2020-12) of a message",
    description="Whatever is taken in fits it. A type without a version is its first one, as in a message.",
    problems=[MALFORMED, NOT_FOUND],
)
async def get_message_schema(request: Call, message_type: FromPath[str]) -> Response[dict[str, Any]]:
    Parameters.of_query(request.scope, known=()).done()
    known = services_of(request).schemas
    schema = known.get(message_type) or known.get(f"{message_type}{_FIRST}")
    if schema is None:
        raise ProblemError(NOT_FOUND, "the catalogue does not know this type")
    return Response(dict(schema), media_type=_MEDIA_TYPE)
