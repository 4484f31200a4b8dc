"""Charts: whatever the numbers are, the picture is whole, and it says in words what it shows."""

from collections.abc import Callable
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.console.charts import HEIGHT, WIDTH, Chart, Series, bars, lines, short, stacked

Draw = Callable[[Chart], str]
_NUMBERS = st.none() | st.floats() | st.integers()


def chart(*values: float | None, labels: list[str] | None = None, name: str = "sent") -> Chart:
    """Make a chart of one series."""
    named = labels or [f"h{at}" for at in range(len(values))]
    return Chart(name="c", title="Sent", labels=named, series=[Series(name, values)], unit="mails")


def marks(svg: str, kind: str) -> list[dict[str, str]]:
    """Return the marks of a kind; the grid is none."""
    found = ET.fromstring(svg).iter(kind)  # noqa: S314  our own text, and well-formed is what is tested
    return [mark.attrib for mark in found if "look" in mark.attrib.get("class", "")]


@pytest.mark.parametrize("draw", [stacked, lines, bars])
@settings(max_examples=30)
@given(values=st.lists(_NUMBERS, max_size=6), label=st.text(st.characters(codec="utf-8", exclude_categories=["Cc"])))
def test_any_numbers_and_any_names_make_a_whole_picture_that_stays_inside(
    draw: Draw, values: list[float | None], label: str
):
    svg = draw(chart(*values, labels=[label] * len(values), name=label))

    for mark in marks(svg, "rect"):
        x, y, wide, high = (float(mark[each]) for each in ("x", "y", "width", "height"))
        assert x >= 0
        assert y >= -0.1
        assert x + wide <= WIDTH + 0.1
        assert draw is bars or y + high <= HEIGHT
    for mark in marks(svg, "circle"):
        assert 0 <= float(mark["cy"]) <= HEIGHT
    assert "nan" not in svg.replace(label, "") or "nan" in label
    assert " style=" not in svg.replace(label, "")


def test_a_name_that_looks_like_markup_is_text():
    hostile = "</desc><script>alert(1)</script>"

    svg = stacked(chart(1, labels=[hostile], name='"><img src=x>'))

    assert "<script" not in svg
    assert "<img" not in svg


def test_columns_stand_one_upon_the_other_and_their_heights_are_their_numbers():
    two = Chart(name="c", title="t", labels=["a"], series=[Series("x", [10]), Series("y", [30]), Series("z", [0])])

    first, second = marks(stacked(two), "rect")

    assert float(second["height"]) == pytest.approx(3 * float(first["height"]), abs=0.2)
    assert float(second["y"]) + float(second["height"]) == pytest.approx(float(first["y"]), abs=0.2)


def test_where_nothing_is_known_a_line_is_broken_and_a_single_point_is_a_dot():
    svg = lines(chart(1, 2, None, 4, None, 5, 6))

    assert len(marks(svg, "polyline")) == 2
    assert len(marks(svg, "circle")) == 1


def test_a_chart_says_in_words_what_it_shows():
    assert chart(5, None, 20).summary == "From h0 to h2. sent: 5 mails to 20 mails."
    assert chart(7).summary == "From h0 to h0. sent: 7 mails."
    assert chart(None).summary == "From h0 to h0. sent: nothing known."
    assert chart().summary == "There is nothing to show."


def test_the_table_beside_a_chart_has_every_number_in_full():
    assert chart(1_234_567, None, 0.25, float("inf")).rows == [
        ("h0", ["1,234,567"]),
        ("h1", ["n/a"]),
        ("h2", ["0.25"]),
        ("h3", ["1e+15"]),
    ]


@pytest.mark.parametrize(
    ("number", "written"),
    [(None, "n/a"), (0, "0"), (0.25, "0.25"), (999, "999"), (999.99, "1 k"), (1234, "1.234 k"), (2_500_000, "2.5 M")],
)
def test_numbers_are_written_in_few_characters(number: float | None, written: str):
    assert short(number) == written
