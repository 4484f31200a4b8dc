"""The HTTP API, and the small app that every role serves on OPS_PORT."""

from importlib.metadata import version

from litestar import Litestar, MediaType, Response, Router
from litestar.datastructures import State
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, YamlRenderPlugin
from prometheus_client import CollectorRegistry

from api import callbacks, health, messages, notifications
from api.auth import Guard, check_all_declared
from api.correlation import send_back
from api.health import Readiness
from api.problems import HANDLERS, NOT_FOUND, ProblemError
from api.services import Services

LARGEST_BODY = 1024 * 1024

ROUTES = (
    messages.post_message,
    messages.post_notification,
    notifications.get_notification,
    notifications.get_history,
    notifications.get_content,
    callbacks.post_ses,
    health.liveness,
    health.readiness,
)


def make_app(services: Services) -> Litestar:
    """Make the API's app. Raises UndeclaredRouteError for a route that does not say who may call it."""
    app = Litestar(
        route_handlers=ROUTES,
        guards=[Guard(services.authenticator)],
        before_send=[send_back],
        exception_handlers=HANDLERS,
        request_max_body_size=LARGEST_BODY,
        state=State({"services": services, "readiness": services.readiness}),
        openapi_config=_openapi(),
        logging_config=None,
    )
    check_all_declared(app)
    return app


def make_ops_app(readiness: Readiness, registry: CollectorRegistry) -> Litestar:
    """Make the app that tells orchestrator and Prometheus how this process is."""
    return Litestar(
        route_handlers=[health.liveness, health.readiness, health.metrics],
        before_send=[send_back],
        exception_handlers=HANDLERS,
        state=State({"readiness": readiness, "registry": registry}),
        openapi_config=None,
        logging_config=None,
    )


def _openapi() -> OpenAPIConfig:
    router = Router("/schema", route_handlers=[], include_in_schema=False, after_request=_as_problem)
    return OpenAPIConfig(
        title="notification-ledger",
        version=version("notification-ledger"),
        openapi_router=router,
        render_plugins=[
            JsonRenderPlugin(path=["/openapi.json", "/"], media_type=MediaType.JSON),
            YamlRenderPlugin(path="/openapi.yaml"),
        ],
    )


async def _as_problem(response: Response[object]) -> Response[object]:
    """Replace Litestar's page for a document that is not there."""
    if response.status_code == NOT_FOUND.status:
        raise ProblemError(NOT_FOUND)
    return response
