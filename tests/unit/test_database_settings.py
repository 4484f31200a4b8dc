import pytest

from ops.errors import SettingsError
from ops.settings import DURABILITY, load


@pytest.mark.parametrize(
    ("given", "allowed"),
    [("", set()), ("false", set()), ("fsync", {"fsync"}), ("fsync, Full_Page_Writes", {"fsync", "full_page_writes"})],
)
def test_what_may_be_off_in_postgres_is_named(given: str, allowed: set[str]):
    assert load({"ALLOW_UNSAFE_DATABASE": given}, dotenv=None).allowed_off() == allowed


def test_all_of_it_may_be_off_for_tests_and_nothing_else_can_be_named():
    assert load({"ALLOW_UNSAFE_DATABASE": "true"}, dotenv=None).allowed_off() == DURABILITY
    with pytest.raises(SettingsError, match="ALLOW_UNSAFE_DATABASE must be fsync"):
        load({"ALLOW_UNSAFE_DATABASE": "fsync, version"}, dotenv=None)
