"""What other services are told of templates, each message made of one fact alone."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

import msgspec

from ledger.mapping import Recorded
from ledger.template import Published, RolledBack

Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class TemplateEvent(StrEnum):
    """Why other words are said."""

    PUBLISHED = "published"
    ROLLED_BACK = "rolled_back"


class ToldTemplate(msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag_field="about", tag="template"):
    """What a template says from now on: `templateVersion` instead of `replaces`, empty where nothing was said before.

    Both are digests of all words; what was asked for before still says what it was pinned to.
    """

    template: str
    template_version: str
    replaces: str
    version: int
    position: int
    event: TemplateEvent
    occurred_at: Moment
    reason: str


def told_template(recorded: Recorded) -> ToldTemplate | None:
    """Return what is told of one fact; None for a fact by which no other words are said."""
    match fact := recorded.fact:
        case Published():
            event = TemplateEvent.PUBLISHED
        case RolledBack():
            event = TemplateEvent.ROLLED_BACK
        case _:
            return None
    return ToldTemplate(
        template=fact.template,
        template_version=fact.version,
        replaces=fact.replaces,
        version=recorded.originator_version,
        position=recorded.position or 0,
        event=event,
        occurred_at=fact.recorded_at,
        reason=fact.reason,
    )
