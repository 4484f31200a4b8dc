"""Tables for other programs: none of them runs what stands in a cell."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from api.tables import as_csv


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_text_that_would_be_a_formula_is_a_text(text: str):
    assert as_csv(["name"], [[text]]).splitlines()[1].strip('"').startswith("'")


def test_a_table_has_names_times_and_exact_amounts_and_quotes_what_must_be():
    at = datetime(2026, 11, 23, 9, tzinfo=UTC)
    told = as_csv(["day", "name", "amount", "none"], [[at, 'a "b", c', Decimal("1E+2"), None]])
    assert told == 'day,name,amount,none\r\n2026-11-23T09:00:00Z,"a ""b"", c",100,\r\n'
