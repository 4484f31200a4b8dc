"""The table: one row for each name, printed as it is measured, and written as JSON on demand."""

from collections.abc import Iterable
from pathlib import Path

import msgspec

_FORM = "{:<26} {:>12} {:<16} {:>12} {:>8}"


class Row(msgspec.Struct, frozen=True):
    """One measured value in its unit; `baseline` is what the same work takes without us, in the same unit."""

    name: str
    value: float
    unit: str
    baseline: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many times the baseline it is."""
        return self.value / self.baseline if self.baseline else None


def print_head() -> None:
    """Print the names of the columns."""
    print(_FORM.format("name", "value", "unit", "baseline", "ratio"), flush=True)


def print_row(row: Row) -> None:
    """Print one row."""
    baseline = "" if row.baseline is None else _number(row.baseline)
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    print(_FORM.format(row.name, _number(row.value), row.unit, baseline, ratio).rstrip(), flush=True)


def write(rows: Iterable[Row], path: Path) -> None:
    """Write the rows as a JSON list of name, value, unit, baseline and ratio."""
    listed = [
        {"name": row.name, "value": row.value, "unit": row.unit, "baseline": row.baseline, "ratio": row.ratio}
        for row in rows
    ]
    path.write_bytes(msgspec.json.format(msgspec.json.encode(listed)) + b"\n")


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
