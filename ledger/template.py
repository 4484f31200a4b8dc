"""What a template says, and since when: one stream for each, its facts, state and decisions.

The words themselves lie beside the facts, under their digest (ledger/template_files.py): they never change.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from ledger.errors import DraftMovedError, NoSuchVersionError
from ledger.keys import Identity
from ledger.notification import Fact, Origin

# ---------------------------------------------------------------------------------------------------------------
# Facts. They are storage, as those of a notification are. A version is the hex digest of all files that it is made
# of; `replaces` is what was said before, empty where that was nothing.
# ---------------------------------------------------------------------------------------------------------------


class Drafted(Fact, frozen=True, kw_only=True):
    """Somebody proposes these words; the last draft is the one that may be published. `draft` is their digest."""

    template: str
    draft: str


class Published(Fact, frozen=True, kw_only=True):
    """A draft was vetted, and its words are said from now on: `version`, the digest of what vetting made of them."""

    template: str
    draft: str
    version: str
    replaces: str
    reason: str


class RolledBack(Fact, frozen=True, kw_only=True):
    """A version that was said before is said again from now on."""

    template: str
    version: str
    replaces: str
    reason: str


TemplateFact = Drafted | Published | RolledBack

# ---------------------------------------------------------------------------------------------------------------
# State
# ---------------------------------------------------------------------------------------------------------------


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """Words that are or were said, and who published them last; without that they came with a release.

    `draft` is the digest of what they were made of.
    """

    version: str
    draft: str
    published_at: datetime | None = None
    by: str | None = None
    reason: str | None = None


class Template(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided on one template. `published` is what is said, None = what the release brings.

    `versions` are those that were ever said, in the order in which they came.
    """

    name: str
    stream: UUID
    version: int = 0
    draft: Drafted | None = None
    published: str | None = None
    versions: Mapping[str, Version] = {}


def empty(identity: Identity, name: str) -> Template:
    """Return the state before the first fact; its stream is derived from the name."""
    return Template(name=name, stream=identity.standing_stream("template", name))


def fold(state: Template, facts: Sequence[TemplateFact]) -> Template:
    """Apply facts in order."""
    for fact in facts:
        state = evolve(state, fact)
    return state


def evolve(state: Template, fact: TemplateFact) -> Template:
    """Return the state after one more fact."""
    version = state.version + 1
    match fact:
        case Drafted():
            return msgspec.structs.replace(state, version=version, draft=fact)
        case Published():
            new = Version(
                version=fact.version,
                draft=fact.draft,
                published_at=fact.recorded_at,
                by=fact.by,
                reason=fact.reason,
            )
            versions = {**_with(state, fact.replaces), fact.version: new}
            return msgspec.structs.replace(
                state, version=version, draft=None, published=fact.version, versions=versions
            )
        case RolledBack():
            return msgspec.structs.replace(
                state, version=version, published=fact.version, versions=_with(state, fact.replaces)
            )


def _with(state: Template, replaced: str) -> Mapping[str, Version]:
    """Return the versions with the one that was said so far: one that nobody has published was made of itself."""
    if not replaced or replaced in state.versions:
        return state.versions
    return {**state.versions, replaced: Version(version=replaced, draft=replaced)}


# ---------------------------------------------------------------------------------------------------------------
# Decide
# ---------------------------------------------------------------------------------------------------------------


def draft(state: Template, digest: str, origin: Origin) -> tuple[Drafted, ...]:
    """Propose words; those that are proposed already are no news."""
    if state.draft is not None and state.draft.draft == digest:
        return ()
    return (Drafted(**origin.stamp(), template=state.name, draft=digest),)


def check_draft(state: Template, digest: str) -> bool:
    """Tell whether a draft is still to be published; False = it is what is said. Raises DraftMovedError."""
    if state.draft is not None and state.draft.draft == digest:
        return True
    said = state.versions.get(state.published or "")
    if said is not None and said.draft == digest:
        return False
    raise DraftMovedError("this is not the draft that lies there now: look at it again")


def publish(
    state: Template, digest: str, version: str, origin: Origin, *, replaces: str, reason: str
) -> tuple[Published, ...]:
    """Say the words that were made of a draft; nothing where that draft is said already. Raises DraftMovedError."""
    if not check_draft(state, digest):
        return ()
    published = Published(
        **origin.stamp(), template=state.name, draft=digest, version=version, replaces=replaces, reason=reason
    )
    return (published,)


def roll_back(state: Template, version: str, origin: Origin, *, replaces: str, reason: str) -> tuple[RolledBack, ...]:
    """Say a version again; nothing where it is what is said. Raises NoSuchVersionError for one that never was."""
    if version == replaces:
        return ()
    if version not in state.versions:
        raise NoSuchVersionError("no such version of this template was ever said")
    return (RolledBack(**origin.stamp(), template=state.name, version=version, replaces=replaces, reason=reason),)
