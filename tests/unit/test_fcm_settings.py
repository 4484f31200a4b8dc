import pytest

from ops.errors import SettingsError
from ops.settings import load, require
from providers.fakes.fcm_access import Account

PUSHING = {
    "DATABASE_URL": "postgresql://app@localhost/ledger",
    "KEY_ENCRYPTION_KEY": "A" * 43 + "=",
    "INSTALLATION": "test",
    "RECIPIENT_ALLOW_LIST": "*",
    "AWS_REGION": "eu-west-1",
    "PUBLIC_URL": "https://notifications.shop.example",
    "CHANNELS": "email,push",
}


@pytest.fixture(scope="module")
def key() -> str:
    return Account("acme").credentials("http://127.0.0.1:9")


def test_the_key_of_a_service_account_is_a_setting(key: str):
    assert load({"FCM_CREDENTIALS": key}, dotenv=None).fcm_credentials == key


@pytest.mark.parametrize(
    "change", [("service_account", "authorized_user"), ("BEGIN PRIVATE KEY", "BEGIN NOTHING"), ("acme", ""), ("{", "[")]
)
def test_what_is_no_such_key_is_a_fault_that_shows_nothing_of_it(key: str, change: tuple[str, str]):
    with pytest.raises(SettingsError) as fault:
        load({"FCM_CREDENTIALS": key.replace(*change)}, dotenv=None)
    assert str(fault.value).endswith("FCM_CREDENTIALS must be the JSON key of a Google service account")


def test_only_who_serves_pushes_needs_the_key(key: str):
    with pytest.raises(SettingsError, match="FCM_CREDENTIALS is required"):
        require(load(PUSHING, dotenv=None), ["deliver"])
    require(load(PUSHING, dotenv=None), ["project"])
    require(load({**PUSHING, "FCM_CREDENTIALS": key}, dotenv=None), ["deliver"])
    require(load({**PUSHING, "CHANNELS": "email"}, dotenv=None), ["deliver"])
