import pytest

from ops.errors import SettingsError
from ops.settings import Settings, load, require

ALWAYS = Settings(
    database_url="postgresql://here",
    key_encryption_key="k",
    installation="shop",
    recipient_allow_list="*",
    jwt_issuer="i",
    jwt_audience="a",
    jwt_jwks_url="u",
)


def missing(roles: list[str], **given: str) -> str:
    fields = {name: getattr(ALWAYS, name) for name in Settings.__struct_fields__}
    with pytest.raises(SettingsError) as fault:
        require(Settings(**{**fields, **given}), roles)
    return str(fault.value)


def test_each_channel_names_all_that_it_needs_at_once():
    said = missing(["deliver"], channels="email, sms")
    for name in ("AWS_REGION", "SMS_SENDER", "TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN", "PUBLIC_URL"):
        assert f"{name} is required" in said


@pytest.mark.parametrize("password", ["pa[ss", "pa\u2100ss"])
def test_an_address_that_cannot_be_read_is_named_without_what_it_says(password: str):
    urls = {"DATABASE_URL": f"postgresql://app:{password}@db/ledger", "AMQP_URL": f"amqp://app:{password}@mq/"}
    archive = {"ARCHIVE_URL": f"s3://{password}"}
    with pytest.raises(SettingsError) as fault:
        load({**urls, **archive}, dotenv=None)
    for name in (*urls, *archive):
        assert f"{name} must be" in str(fault.value)
    assert password not in str(fault.value)


@pytest.mark.parametrize("name", ["TWILIO_AUTH_TOKEN", "TWILIO_SHARED_KEY", "KEY_ENCRYPTION_KEY"])
def test_a_list_of_secrets_names_one_at_least(name: str):
    with pytest.raises(SettingsError, match=f"{name} must be"):
        load({name: ","}, dotenv=None)


def test_a_channel_that_is_not_served_needs_nothing():
    assert "TWILIO" not in missing(["deliver"], channels="email")
    assert "AWS_REGION" not in missing(["deliver"], channels="sms")


def test_the_api_needs_what_verifies_the_reports():
    said = missing(["api"], channels="sms")
    assert "TWILIO_AUTH_TOKEN is required" in said
    assert "PUBLIC_URL is required" in said
    assert "TWILIO_ACCOUNT_SID" not in said


def test_of_two_auth_tokens_the_new_one_comes_first():
    assert load({"TWILIO_AUTH_TOKEN": "new, old"}, dotenv=None).twilio_auth_tokens() == ["new", "old"]


@pytest.mark.parametrize("name", ["PUBLIC_URL", "TWILIO_BASE_URL"])
def test_an_address_that_is_none_is_a_fault_that_shows_no_value(name: str):
    with pytest.raises(SettingsError) as fault:
        load({name: "shop.example/s3cret"}, dotenv=None)
    assert f"{name} must be an https:// URL" in str(fault.value)
    assert "s3cret" not in str(fault.value)
