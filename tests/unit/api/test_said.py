import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from api.said import LONGEST, Kind, UnsearchableError, meanings

ID = "01a206f8-5a3c-7000-8000-00000000000a"


def values(text: str, kind: Kind) -> set[str]:
    return {one.value for one in meanings(text) if one.kind is kind}


@pytest.mark.parametrize(
    "text",
    [
        "Ada@Example.com",
        " <Ada@Example.com> ",
        "mailto:Ada@Example.com",
        "Ada Lovelace <Ada@Example.com>",
        "\u200eAda@Example.com,",
    ],
)
def test_an_address_is_found_in_what_stands_around_it(text: str):
    assert "Ada@Example.com" in values(text, Kind.ADDRESS)


@pytest.mark.parametrize(
    "text",
    [
        "+442071838750",
        "+44 (0)20 7183 8750",
        "0044 20 7183-8750",
        "tel:+44-20-7183-8750",
        "442071838750",
        "\u202a+44\u00a020\u20117183\u20118750\u202c",
    ],
)
def test_a_number_is_read_as_on_a_letterhead(text: str):
    assert values(text, Kind.ADDRESS) == {"+442071838750"}


def test_a_number_without_its_country_is_no_phone_number():
    assert values("(020) 7183 8750", Kind.ADDRESS) == set()


@pytest.mark.parametrize("text", [ID, ID.upper(), ID.replace("-", ""), f"{{{ID}}}", f"notification {ID}"])
def test_an_id_is_read_in_any_form(text: str):
    assert values(text, Kind.NOTIFICATION) == {ID}


def test_an_id_may_also_be_that_of_anything_else():
    for kind in (Kind.USER, Kind.REFERENCE, Kind.MESSAGE, Kind.CORRELATION, Kind.PROVIDER):
        assert ID in values(ID.upper(), kind)


@pytest.mark.parametrize("text", ["order: 17", "order=17", "order #17", "order 17"])
def test_a_number_may_be_said_with_the_name_of_its_reference(text: str):
    assert ("17", "order") in {(one.value, one.name) for one in meanings(text)}
    # An id may have such a form, too.
    assert text in values(text, Kind.MESSAGE)


def test_what_is_named_as_ours_is_that():
    assert "ada" in values("user ada", Kind.USER)
    assert "ada" not in values("user ada", Kind.REFERENCE)
    assert "m-1" in values("Message-ID: m-1", Kind.MESSAGE)


def test_a_sign_before_a_number_may_be_left_out():
    assert {"#4711", "4711"} <= values("#4711", Kind.REFERENCE)


@pytest.mark.parametrize(
    "text", ["", " \t", "\u200b", "a\0b", "a\nb", "\ud800", "x" * 10_000, "x" * (LONGEST + 1), "\u0301" * 700]
)
def test_what_cannot_be_searched_is_a_plain_fault_that_repeats_nothing(text: str):
    with pytest.raises(UnsearchableError, match="must be") as refused:
        meanings(text)
    assert not text.strip() or text not in str(refused.value)


@given(st.text(st.characters(), max_size=700))
@example("@")
@example("<@>")
@example("a@" + "(" * 300)
@example("+" + "0" * 300)
@example("00")
def test_any_text_is_understood_or_refused(text: str):
    try:
        found = meanings(text)
    except UnsearchableError:
        return
    assert len(set(found)) == len(found)
    for one in found:
        one.value.encode()
        assert "\0" not in one.value
        assert 0 < len(one.value) <= LONGEST
