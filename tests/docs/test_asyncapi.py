import time
from datetime import datetime
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
import yaml

from api.schemas import Message
from handlers.ingest import DEAD, EXCHANGES, NORMAL, URGENT
from handlers.preference_messages import PreferenceEvent
from handlers.publish import EVENTS, UNROUTED, routing_key
from handlers.status_messages import MessageType, StatusMessage
from handlers.template_messages import TemplateEvent
from ledger.values import Category, Channel
from templates.catalogue import load
from templates.envelope import examine
from tests.docs.pages import DOCS
from tests.docs.sandbox import Sandbox
from tests.support.json_schema import faults
from tests.support.rabbitmq import Broker
from tests.support.service import SOON

# Addresses behind the exchange that is published to.
KEYS = {
    EVENTS: "{messageType}.{channel}.{category}",
    f"{EVENTS}/preferences": f"{MessageType.PREFERENCE}.{{event}}",
    f"{EVENTS}/templates": f"{MessageType.TEMPLATE}.{{event}}",
}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((DOCS / "reference" / "asyncapi.yaml").read_text("utf-8"))
    return read


def bound(channel: dict[str, Any], kind: str) -> dict[str, Any]:
    binding: dict[str, Any] = channel["bindings"]["amqp"]
    assert binding["is"] == kind
    described: dict[str, Any] = binding["queue" if kind == "queue" else "exchange"]
    return described


def test_it_has_the_exchanges_that_are_declared_and_the_queues_behind_them(document: dict[str, Any]):
    behind = {
        bound(channel, "routingKey")["name"]: channel["x-queue"]
        for channel in document["channels"].values()
        if "x-queue" in channel
    }
    assert behind == {exchange: queue for queue, exchanges in EXCHANGES.items() for exchange in exchanges}


def test_every_channel_is_named_after_what_it_is(document: dict[str, Any]):
    for name, channel in document["channels"].items():
        address = "#" if "x-queue" in channel else KEYS.get(name, name)
        assert bound(channel, "queue" if address == name else "routingKey")["name"] == name.partition("/")[0]
        assert channel["address"] == address


def test_the_broker_has_every_queue_as_it_is_described(
    document: dict[str, Any], pages_broker: Broker, sandbox: Sandbox
):
    for name in (URGENT, NORMAL, DEAD, UNROUTED):
        assert_as_described(pages_broker, document["channels"][name], "queue")


def test_the_broker_has_the_exchange_of_status_messages_as_it_is_described(
    document: dict[str, Any], pages_broker: Broker, sandbox: Sandbox
):
    assert_as_described(pages_broker, document["channels"][EVENTS], "exchange")


def assert_as_described(broker: Broker, channel: dict[str, Any], kind: str) -> None:
    described = bound(channel, "queue" if kind == "queue" else "routingKey")
    found = declared(broker, f"{kind}s", described["name"])
    names = {"type": "type", "durable": "durable", "autoDelete": "auto_delete"}
    assert found["arguments"] == channel["x-arguments"]
    for ours, theirs in names.items():
        assert ours not in described or found[theirs] == described[ours]


def declared(broker: Broker, kind: str, name: str) -> dict[str, Any]:
    """Return what the broker says of it, once it is there: the service is ready before it has met its broker."""
    give_up_at = time.monotonic() + SOON.total_seconds()
    while time.monotonic() < give_up_at:
        definitions = broker.request("GET", f"definitions/{quote(broker.vhost, safe='')}").json()
        for one in definitions[kind]:
            if one["name"] == name:
                found: dict[str, Any] = one
                return found
        time.sleep(0.1)
    raise TimeoutError(f"the broker has no {name} among its {kind}")


def test_a_message_is_routed_by_the_words_that_are_described(document: dict[str, Any]):
    status, preference, template = (parameters(document, channel) for channel in KEYS)
    others = set(MessageType) - {MessageType.PREFERENCE, MessageType.TEMPLATE}
    assert status == {"messageType": others, "channel": set(Channel), "category": set(Category)}
    assert preference == {"event": set(PreferenceEvent)}
    assert template == {"event": set(TemplateEvent)}
    assert [routing_key(msgspec.convert(one["payload"], StatusMessage)) for one in published(document)["examples"]] == [
        "NotificationDeliveryUpdate.email.transactional",
        "CommunicationPreferenceUpdated.consent_changed",
        "NotificationTemplateUpdated.published",
    ]


def parameters(document: dict[str, Any], channel: str) -> dict[str, set[str]]:
    return {name: set(given["enum"]) for name, given in document["channels"][channel]["parameters"].items()}


def published(document: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = document["components"]["messages"]["statusMessage"]
    return described


def test_the_examples_of_status_messages_are_some(document: dict[str, Any]):
    described = published(document)
    for example in described["examples"]:
        assert list(faults(example["payload"], described["payload"], document)) == []
        read = msgspec.convert(example["payload"], StatusMessage)
        assert msgspec.json.decode(msgspec.json.encode(read)) == example["payload"]


def test_every_reference_leads_somewhere(document: dict[str, Any]):
    for reference in references(document):
        place: Any = document
        for step in reference.removeprefix("#/").split("/"):
            place = place[step.replace("~1", "/")]


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if "$ref" in node else []
        return own + [found for value in node.values() for found in references(value)]
    return [found for value in node for found in references(value)] if isinstance(node, list) else []


def test_the_envelope_is_that_of_the_http_api(document: dict[str, Any]):
    _, components = msgspec.json.schema_components([Message])
    described = document["components"]["schemas"]["envelope"]
    assert set(described["required"]) == set(components["Message"]["required"])
    assert set(described["properties"]) == set(components["Message"]["properties"])


def test_both_documents_say_what_is_not_recorded(document: dict[str, Any]):
    _, components = msgspec.json.schema_components([Message])
    for described in (document["components"]["schemas"]["envelope"], components["Message"]):
        ignored = [name for name, field in described["properties"].items() if "Accepted and ignored." in str(field)]
        assert ignored == ["partitionKey", "envelopeVersion"]


def test_its_examples_are_taken(document: dict[str, Any]):
    known = load()
    for example in document["components"]["messages"]["message"]["examples"]:
        now = datetime.fromisoformat(example["payload"]["timestamp"])
        envelope, faults = examine(msgspec.json.encode(example["payload"]), now=now)
        assert faults == []
        assert known.asks(envelope, channels={Channel.EMAIL})
