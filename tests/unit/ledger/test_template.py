"""Templates: given what was drafted and published, when somebody decides, then what is recorded and what is said."""

import pytest

from ledger import template
from ledger.errors import DraftMovedError, NoSuchVersionError
from ledger.keys import Identity
from ledger.template import Template, TemplateFact, draft, fold, publish, roll_back
from tests.unit.ledger.samples import at, origin

NOTHING = template.empty(Identity(bytes(range(32))), "order_shipped")


def said(state: Template) -> str:
    return state.published or "shipped"


def drafted(state: Template, digest: str) -> Template:
    return fold(state, draft(state, digest, origin()))


def published(state: Template, digest: str, version: str) -> Template:
    state = drafted(state, digest)
    return fold(state, publish(state, digest, version, origin(), replaces=said(state), reason="a test"))


def rolled_back(state: Template, version: str) -> Template:
    return fold(state, roll_back(state, version, origin(), replaces=said(state), reason="a test"))


def test_at_first_what_the_release_brings_is_said_and_the_stream_is_a_standing_one():
    assert (NOTHING.version, NOTHING.published, NOTHING.draft) == (0, None, None)
    assert NOTHING.stream.hex.startswith("f")


def test_a_draft_changes_nothing_that_is_said():
    state = drafted(NOTHING, "d1")
    assert state.draft is not None
    assert (state.draft.draft, state.published, state.version) == ("d1", None, 1)


def test_the_same_draft_again_is_no_news_and_another_takes_its_place():
    state = drafted(NOTHING, "d1")
    assert draft(state, "d1", origin()) == ()
    assert drafted(state, "d2").draft == draft(state, "d2", origin())[0]


def test_what_is_published_is_said_and_the_fact_names_what_it_replaces_who_and_why():
    state = drafted(NOTHING, "d1")
    (fact,) = publish(state, "d1", "v1", origin(5), replaces="shipped", reason="kinder")
    assert (fact.version, fact.draft, fact.replaces, fact.reason) == ("v1", "d1", "shipped", "kinder")
    assert (fact.by, fact.recorded_at) == ("test", at(5))
    after = fold(state, [fact])
    assert (after.published, after.draft) == ("v1", None)


def test_a_draft_that_is_said_already_is_no_news():
    state = published(NOTHING, "d1", "v1")
    assert publish(state, "d1", "v1", origin(), replaces="v1", reason="again") == ()


@pytest.mark.parametrize("digest", ["d1", "d3"])
def test_only_the_draft_that_lies_there_is_published(digest: str):
    state = drafted(published(NOTHING, "d0", "v0"), "d2")
    with pytest.raises(DraftMovedError):
        publish(state, digest, "v1", origin(), replaces="v0", reason="a test")


def test_what_was_published_and_rolled_back_is_not_published_without_a_draft():
    state = rolled_back(published(NOTHING, "d1", "v1"), "shipped")
    with pytest.raises(DraftMovedError):
        publish(state, "d1", "v1", origin(), replaces="shipped", reason="a test")
    assert published(state, "d1", "v1").published == "v1"


def test_every_version_that_was_ever_said_can_be_said_again_also_the_one_that_was_shipped():
    state = published(published(NOTHING, "d1", "v1"), "d2", "v2")
    assert list(state.versions) == ["shipped", "v1", "v2"]
    for version in ("v1", "shipped", "v2"):
        state = rolled_back(state, version)
        assert state.published == version


def test_a_version_that_is_said_already_is_no_news():
    state = published(NOTHING, "d1", "v1")
    assert roll_back(state, "v1", origin(), replaces="v1", reason="a test") == ()


def test_a_version_that_never_was_said_cannot_be_said_again():
    with pytest.raises(NoSuchVersionError):
        roll_back(drafted(NOTHING, "d1"), "d1", origin(), replaces="shipped", reason="a test")


def test_a_rollback_leaves_the_draft_where_it_is():
    state = drafted(published(NOTHING, "d1", "v1"), "d2")
    assert rolled_back(state, "shipped").draft == state.draft


def test_versions_say_who_published_them_and_when_shipped_ones_do_not():
    facts: list[TemplateFact] = []
    state = drafted(NOTHING, "d1")
    facts += publish(state, "d1", "v1", origin(7), replaces="shipped", reason="kinder")
    shipped, first = fold(state, facts).versions.values()
    assert (shipped.draft, shipped.published_at, shipped.by) == ("shipped", None, None)
    assert (first.draft, first.published_at, first.by, first.reason) == ("d1", at(7), "test", "kinder")
