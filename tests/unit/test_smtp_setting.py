import pytest

from ops.errors import SettingsError
from ops.settings import load


@pytest.mark.parametrize("url", ["smtp://service:s3cret@relay.example", "smtp://127.0.0.1:2525?starttls=off"])
def test_the_relays_url_is_a_setting(url: str):
    assert load({"SMTP_URL": url}, dotenv=None).smtp_url == url


@pytest.mark.parametrize("url", ["relay.example", "smtp://service:s3cret@relay.example?starttls=off"])
def test_a_url_that_names_no_relay_is_a_fault_that_shows_no_value(url: str):
    with pytest.raises(SettingsError) as fault:
        load({"SMTP_URL": url}, dotenv=None)
    assert "SMTP_URL must be smtp://" in str(fault.value)
    assert url not in str(fault.value)
    assert "s3cret" not in str(fault.value)
