"""The HTTP API, and the small app that every role serves on OPS_PORT."""

from litestar import Litestar
from litestar.datastructures import State
from prometheus_client import CollectorRegistry

from api import (
    bulk_actions,
    callbacks,
    costs,
    dead_letters,
    documents,
    erasures,
    finding,
    health,
    message_types,
    messages,
    notifications,
    pauses,
    positions,
    preferences,
    receipts,
    recipient_history,
    recipients,
    resends,
    search,
    statistics,
    suppressions,
    templates,
    test_sends,
    unsubscribe,
)
from api.auth import Guard, check_all_declared
from api.console import routes as console
from api.console.errors import told_to_people
from api.console.headers import harden
from api.correlation import send_back
from api.health import Readiness
from api.paths import as_sent
from api.problems import HANDLERS
from api.services import Services

LARGEST_BODY = 1024 * 1024

ROUTES = (
    messages.post_message,
    messages.post_notification,
    message_types.list_message_types,
    message_types.get_message_schema,
    search.list_notifications,
    search.search_notifications,
    finding.post_find,
    notifications.get_notification,
    notifications.get_history,
    notifications.get_explanation,
    notifications.get_content,
    notifications.post_release,
    notifications.post_cancel,
    resends.post_resend,
    bulk_actions.post_bulk_action,
    bulk_actions.list_bulk_actions,
    bulk_actions.get_bulk_action,
    bulk_actions.post_bulk_stop,
    recipients.get_recipient,
    recipients.patch_recipient,
    recipients.post_device,
    recipients.delete_device,
    preferences.get_preferences,
    preferences.patch_preferences,
    recipient_history.get_recipient_history,
    erasures.post_erasure,
    erasures.post_address_erasure,
    suppressions.list_suppressions,
    suppressions.post_suppression,
    suppressions.search_suppressions,
    suppressions.get_suppression,
    suppressions.get_suppression_history,
    suppressions.post_suppression_release,
    statistics.get_statistics,
    costs.get_costs,
    positions.list_positions,
    templates.list_templates,
    templates.get_template,
    templates.list_versions,
    templates.get_version,
    templates.get_diff,
    templates.put_draft,
    templates.post_preview,
    templates.post_publish,
    templates.post_rollback,
    test_sends.post_test_send,
    pauses.list_pauses,
    pauses.post_pause,
    pauses.post_resume,
    dead_letters.list_dead_letters,
    dead_letters.get_dead_letter,
    dead_letters.replay_dead_letter,
    dead_letters.discard_dead_letter,
    callbacks.post_ses,
    callbacks.post_twilio,
    callbacks.post_twilio_inbound,
    receipts.post_receipt,
    unsubscribe.get_unsubscribe,
    unsubscribe.post_unsubscribe,
    health.liveness,
    health.readiness,
)


def make_app(services: Services) -> Litestar:
    """Make the API's app. Raises UndeclaredRouteError for a route that does not say who may call it."""
    app = Litestar(
        route_handlers=(*ROUTES, *console.ROUTES),
        guards=[Guard(services.authenticator, services.sessions)],
        before_send=[send_back, harden],
        exception_handlers=told_to_people(HANDLERS),
        request_max_body_size=LARGEST_BODY,
        state=State({"services": services, "readiness": services.readiness}),
        openapi_config=documents.config(),
        logging_config=None,
    )
    app.asgi_handler = as_sent(app.asgi_handler)
    check_all_declared(app)
    documents.complete(app)
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
