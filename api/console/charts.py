"""Charts as SVG, drawn from numbers alone: every one has a title, a description in words, and its table beside it.

No style stands in the text, for the page's policy lets none in: what a mark looks like is said by its class
(`static/charts.css`), what it stands for by its place, its name and its table, never by its colour alone.
"""

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

import msgspec

WIDTH: Final = 480
HEIGHT: Final = 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 8, 10, 26
_ACROSS, _UP = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
_BAR, _GAP = 18, 24
# Beyond it numbers are drawn as if they were this: a scale that runs to infinity shows nothing.
_MOST = 1e15
_LEAST = 1e-9
_SHORT = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_NOTHING = "There is nothing to show."
# As many as `charts.css` knows looks for.
LOOKS: Final = 8

Number = int | float | None


class Series(msgspec.Struct, frozen=True):
    """What is drawn in one look: a number for each label of its chart, None = nothing is known there."""

    name: str
    values: Sequence[Number]
    look: int = 0


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """What a chart shows: `labels` go across; `unit` is said after each number of the table."""

    name: str
    title: str
    labels: Sequence[str]
    series: Sequence[Series]
    unit: str = ""

    @property
    def summary(self) -> str:
        """What the chart says, in a sentence or two for those who do not see it."""
        if not self.labels or not self.series:
            return _NOTHING
        spans = [self._span(series) for series in self.series]
        return f"From {self.labels[0]} to {self.labels[-1]}. " + " ".join(spans)

    @property
    def ranking(self) -> str:
        """What a chart of one series says where its labels do not follow each other in time."""
        numbers = zip(self.labels, self.series[0].values, strict=True) if self.series else ()
        return "; ".join(f"{label}: {short(value)}{_after(self.unit)}" for label, value in numbers) or _NOTHING

    @property
    def rows(self) -> list[tuple[str, list[str]]]:
        """The table of the chart: each label with its numbers, as exact as they are known."""
        return [(label, [exact(series.values[at]) for series in self.series]) for at, label in enumerate(self.labels)]

    def _span(self, series: Series) -> str:
        known = _known(series.values)
        if not known:
            return f"{series.name}: nothing known."
        least, most = (f"{short(each)}{_after(self.unit)}" for each in (min(known), max(known)))
        return f"{series.name}: {most}." if least == most else f"{series.name}: {least} to {most}."


def stacked(chart: Chart) -> str:
    """Draw a column for each label, its series one upon the other (SVG)."""
    columns = [[_drawn(series.values[at]) for series in chart.series] for at in range(len(chart.labels))]
    top = _scale(max((sum(each or 0 for each in column) for column in columns), default=0))
    step = _ACROSS / max(len(columns), 1)
    width = max(step - min(4, step / 5), 0.5)
    marks = []
    for at, column in enumerate(columns):
        below = 0.0
        for series, value in zip(chart.series, column, strict=True):
            if value:
                high = _UP * value / top
                x, y = _LEFT + at * step + (step - width) / 2, _TOP + _UP - below - high
                marks.append(_rect(series.look, x, y, width=width, height=high))
                below += high
    return _svg(chart, [*_axes(chart, top), *marks])


def lines(chart: Chart) -> str:
    """Draw a line for each series; where nothing is known it is broken, and a single point is a dot (SVG)."""
    top = _scale(max((each for series in chart.series for each in _known(series.values)), default=0))
    step = _ACROSS / max(len(chart.labels), 1)
    marks = []
    for series in chart.series:
        for run in _runs(series.values):
            points = [(_LEFT + (at + 0.5) * step, _TOP + _UP - _UP * value / top) for at, value in run]
            marks.append(_line(series.look, points) if len(points) > 1 else _dot(series.look, *points[0]))
    return _svg(chart, [*_axes(chart, top), *marks])


def bars(chart: Chart) -> str:
    """Draw a bar from left to right for each label of the only series, with its name and its number (SVG)."""
    (series,) = chart.series
    values = [_drawn(value) for value in series.values]
    top = _scale(max((value or 0 for value in values), default=0))
    marks, room = [], WIDTH - 60
    for at, (label, value) in enumerate(zip(chart.labels, values, strict=True)):
        y = at * (_BAR + _GAP) + 16
        wide = room * (value or 0) / top
        marks.append(_text(0, y, cut(label), "start"))
        marks.append(_rect(0, 0, y + 5, width=wide, height=_BAR))
        marks.append(_text(wide + 6, y + 5 + _BAR - 4, short(series.values[at]), "start"))
    return _svg(chart, marks, height=len(values) * (_BAR + _GAP) + 6, said=chart.ranking)


def swatch(series: Series, *, is_line: bool) -> str:
    """Draw what a series looks like, for a legend that says its name beside it (SVG)."""
    mark = _line(series.look, [(0, 6), (28, 6)]) if is_line else _rect(series.look, 0, 0, width=28, height=12)
    return f'<svg viewBox="0 0 28 12" aria-hidden="true">{mark}</svg>'


def short(value: Number) -> str:
    """Write a number in few characters: 1.2 k, 34 M; n/a where nothing is known."""
    drawn = _drawn(value)
    if drawn is None:
        return "n/a"
    for size, letter in _SHORT:
        # What rounds to a thousand of the size below is one of this size.
        if drawn >= size * 0.99995:
            return f"{drawn / size:.4g} {letter}"
    return f"{drawn:.4g}"


def exact(value: Number) -> str:
    """Write a number in full."""
    if isinstance(value, int):
        return f"{value:,}"
    drawn = _drawn(value)
    return "n/a" if drawn is None else f"{drawn:,.6g}"


def cut(label: str, most: int = 48) -> str:
    """Shorten a label to what has room; the table has it whole."""
    return label if len(label) <= most else f"{label[: most - 1]}…"


def _known(values: Sequence[Number]) -> list[float]:
    return [drawn for value in values if (drawn := _drawn(value)) is not None]


def _drawn(value: Number) -> float | None:
    """Return a number as it can be drawn: from 0 to what still has a scale."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return float(max(0, min(value, _MOST)))


def _scale(most: float) -> float:
    """Return the end of a scale: 1, 2 or 5 and zeros, no less than the number."""
    if most < _LEAST:
        return 1.0
    power = 10.0 ** math.floor(math.log10(most))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= most * (1 - 1e-12))


def _runs(values: Sequence[Number]) -> Iterator[list[tuple[int, float]]]:
    """Return the stretches of known numbers, each with its place."""
    run: list[tuple[int, float]] = []
    for at, value in enumerate(values):
        drawn = _drawn(value)
        if drawn is not None:
            run.append((at, drawn))
        elif run:
            yield run
            run = []
    if run:
        yield run


def _axes(chart: Chart, top: float) -> Iterator[str]:
    for share in (0, 0.5, 1):
        y = _TOP + _UP * (1 - share)
        yield f'<line class="grid" x1="{_LEFT}" y1="{y:.1f}" x2="{WIDTH - _RIGHT}" y2="{y:.1f}"/>'
        yield _text(_LEFT - 6, y + 5, short(top * share), "end")
    if chart.labels:
        yield _text(_LEFT, HEIGHT - 6, cut(chart.labels[0], 24), "start")
    if len(chart.labels) > 1:
        yield _text(WIDTH - _RIGHT, HEIGHT - 6, cut(chart.labels[-1], 24), "end")


def _svg(chart: Chart, marks: Sequence[str], *, height: int = HEIGHT, said: str | None = None) -> str:
    name = escape(chart.name)
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">{escape(chart.title)}</title>'
        f'<desc id="{name}-desc">{escape(said or chart.summary)}</desc>'
        f'<g aria-hidden="true">{"".join(marks)}</g></svg>'
    )


def _rect(look: int, x: float, y: float, *, width: float, height: float) -> str:
    return f'<rect class="mark look-{look % LOOKS}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>'


def _line(look: int, points: Sequence[tuple[float, float]]) -> str:
    return f'<polyline class="line look-{look % LOOKS}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>'


def _dot(look: int, x: float, y: float) -> str:
    return f'<circle class="mark dot look-{look % LOOKS}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _after(unit: str) -> str:
    return f" {unit}" if unit else ""
