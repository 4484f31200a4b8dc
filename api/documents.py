"""The OpenAPI document: what Litestar reads off the handlers, completed by what they declare beside it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import msgspec
from litestar import Litestar, MediaType, Response, Router
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, YamlRenderPlugin
from litestar.openapi.spec import (
    Components,
    OpenAPIMediaType,
    OpenAPIResponse,
    Operation,
    Parameter,
    RequestBody,
    Schema,
    SecurityScheme,
)

from api import schemas
from api.auth import declared, operations
from api.problems import (
    MEDIA_TYPE,
    NOT_FOUND,
    SCOPE_MISSING,
    UNAUTHENTICATED,
    UNAVAILABLE,
    Kind,
    Problem,
    ProblemError,
)

_DESCRIPTION = """People get their notification once, and anyone can see, for ever, what happened to it.

Every answer carries `X-Correlation-Id`, the caller's or a new one. Errors are `application/problem+json` (RFC 9457)
with every fault of the request at once. Each unmasked read of personal data is recorded; `X-Reason` says why.
"""
_BEARER = "bearer"
_REF = "#/components/schemas/{name}"
_TAKEN = (
    schemas.Message,
    schemas.NotificationRequest,
    schemas.ContactChange,
    schemas.DeviceRegistration,
    schemas.PreferenceChange,
    schemas.UserErasure,
    schemas.AddressErasure,
    schemas.NewSuppression,
    schemas.SuppressionFilters,
    schemas.AddressSearch,
    schemas.FindText,
    schemas.Release,
    schemas.SearchFilters,
    schemas.ListFilters,
    schemas.Pause,
    schemas.Moment,
    schemas.Trying,
    schemas.AsOf,
    schemas.StoryFilters,
    schemas.LetterFilters,
    schemas.FeedRange,
    schemas.Why,
    schemas.Resending,
    schemas.BulkAction,
    schemas.MaybeWhy,
    schemas.Receipt,
    schemas.TemplateDraft,
    schemas.PreviewRequest,
    schemas.Publication,
    schemas.Rollback,
    schemas.Comparison,
    schemas.TestSend,
    schemas.StatisticsFilters,
    schemas.CostFilters,
    Problem,
)


class NameTakenError(Exception):
    """Two classes would stand in the document under one name: the process does not start."""


@dataclass
class _Verbatim(Schema):
    """A schema that msgspec has written."""

    document: dict[str, Any] = field(default_factory=dict)

    def to_schema(self) -> dict[str, Any]:
        return self.document


def config() -> OpenAPIConfig:
    """Say where the document is served, and what stands at its head."""
    router = Router("/schema", route_handlers=[], include_in_schema=False, after_request=_as_problem)
    scheme = SecurityScheme(type="http", scheme="bearer", bearer_format="JWT", description="RS256 or ES256, by JWKS.")
    return OpenAPIConfig(
        title="notification-ledger",
        version=version("notification-ledger"),
        description=_DESCRIPTION,
        components=Components(security_schemes={_BEARER: scheme}),
        openapi_router=router,
        render_plugins=[
            JsonRenderPlugin(path=["/openapi.json", "/"], media_type=MediaType.JSON),
            YamlRenderPlugin(path="/openapi.yaml"),
        ],
    )


def complete(app: Litestar) -> None:
    """Add scopes, bodies, query parameters and problems to the document of an app.

    A handler declares them in its decorator: `scopes`, `body` and `query` (structs of api.schemas), `problems`, and
    `also`, another media type in which it answers the same.
    """
    document = app.openapi_schema
    _, components = msgspec.json.schema_components(_TAKEN, ref_template=_REF)
    known = document.components.schemas = document.components.schemas or {}
    if twice := [name for name, schema in components.items() if name in known and not _is_same(known[name], schema)]:
        raise NameTakenError(f"something that is answered and something that is taken are both called {twice[0]}")
    known.update({name: _Verbatim(document=schema) for name, schema in components.items()})
    for path, method, handler in operations(app):
        operation: Operation | None = getattr((document.paths or {}).get(path), method.lower(), None)
        if operation is None:
            continue
        scopes = declared(handler)
        operation.security = [] if scopes is None else [{_BEARER: sorted(scopes)}]
        problems = [*handler.opt.get("problems", ()), UNAVAILABLE]
        if scopes is not None:
            problems += [UNAUTHENTICATED, SCOPE_MISSING]
        operation.responses = dict(sorted(((operation.responses or {}) | _responses(problems)).items()))
        if body := handler.opt.get("body"):
            operation.request_body = _body(body.__name__, required="required" in components[body.__name__])
        if also := handler.opt.get("also"):
            _answers_also(operation, also)
        if query := handler.opt.get("query"):
            operation.parameters = [*(operation.parameters or []), *_parameters(components[query.__name__])]


def _is_same(answered: Schema, taken: dict[str, Any]) -> bool:
    """Whether both are written from one class: its docstring stands in both."""
    return answered.description == taken.get("description")


def _responses(kinds: Sequence[Kind]) -> dict[str, OpenAPIResponse]:
    content = {MEDIA_TYPE: OpenAPIMediaType(schema=_Verbatim(document={"$ref": _REF.format(name="Problem")}))}
    titles: dict[str, list[str]] = {}
    for kind in kinds:
        titles.setdefault(str(kind.status), []).append(f"{kind.title} (`{kind.type}`)")
    return {
        status: OpenAPIResponse(description="; ".join(said), content=dict(content)) for status, said in titles.items()
    }


def _answers_also(operation: Operation, media_type: str) -> None:
    answered = (operation.responses or {})["200"]
    if isinstance(answered, OpenAPIResponse) and answered.content is not None:
        answered.content[media_type] = OpenAPIMediaType(schema=_Verbatim(document={"type": "string"}))


def _body(name: str, *, required: bool) -> RequestBody:
    reference = _Verbatim(document={"$ref": _REF.format(name=name)})
    return RequestBody(content={"application/json": OpenAPIMediaType(schema=reference)}, required=required)


def _parameters(schema: dict[str, Any]) -> Iterator[Parameter]:
    for name, said in schema["properties"].items():
        yield Parameter(
            name=name,
            param_in="query",
            required=False,
            description=said.get("description"),
            schema=_Verbatim(document=said),
        )


async def _as_problem(response: Response[object]) -> Response[object]:
    """Replace Litestar's page for a document that is not there."""
    if response.status_code == NOT_FOUND.status:
        raise ProblemError(NOT_FOUND)
    return response
