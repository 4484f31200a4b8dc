from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from projections.notification_search import CursorError, _cursor, _opened


@given(st.uuids())
def test_a_cursor_opens_to_what_it_was_made_of(notification: UUID):
    assert _opened(_cursor(notification)) == notification


@given(st.text())
@example("")
@example("AaIEChXefcaYwx74E9ZKVw==")
@example("AaIEChXefcaYwx74E9ZKVx")
@example("AaIEChXefcaYwx74E9ZKV")
@example("../+AAAAAAAAAAAAAAAAAA")
@example("\ud800")
def test_anything_else_is_refused(text: str):
    with pytest.raises(CursorError):
        _opened(text)
