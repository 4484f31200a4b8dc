"""Drafts as somebody might write them."""

from typing import Any

from ledger.values import Channel
from templates.drafts import Draft
from templates.files import MESSAGES, own_in, shared_in
from templates.shapes import as_written


def draft(files: dict[str, str] | None = None, **changes: Any) -> Draft:
    """Return a draft in order; `files` are put beside or in the place of its own."""
    written = {
        "en/subject.txt": "Your order {{ orderId }}",
        "en/body.html": "<p>{{ orderId }}: {{ total | money(currency) }}</p>",
        "en/body.txt": "{{ orderId }}: {{ total | money(currency) }}",
    }
    given: dict[str, Any] = {
        "name": "note",
        "data": {
            "orderId": "id",
            "total": "amount",
            "currency": "currency",
            "count": "integer",
            "day?": "date",
            "items": [{"name": "text", "price?": "amount"}],
            "to?": {"city": "text", "lines": ["line"]},
        },
        "channels": (Channel.EMAIL,),
    }
    return Draft(files={**written, **(files or {})}, **{**given, **changes})


def shipped(kind: Any, **changes: Any) -> Draft:
    """Return a template of ours as a draft."""
    given: dict[str, Any] = {
        "name": kind.template,
        "files": {**shared_in(MESSAGES), **own_in(MESSAGES, kind.template)},
        "data": as_written(kind.data),
        "channels": kind.every_channel,
        "segments": kind.sms_segments,
    }
    return Draft(**{**given, **changes})
