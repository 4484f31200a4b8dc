import pytest

from ops.errors import SettingsError
from ops.settings import load


def test_caps_are_read_at_the_start_with_all_other_settings():
    with pytest.raises(SettingsError) as caught:
        load({"SPEND_CAPS": "sms=100", "LOG_LEVEL": "loud"}, dotenv=None)
    assert [fault.split(" ", 1)[0] for fault in caught.value.faults] == ["SPEND_CAPS", "LOG_LEVEL"]
    (cap,) = load({"SPEND_CAPS": "sms:GB=100 GBP"}, dotenv=None).caps()
    assert (cap.key, str(cap.limit)) == ("spend:GBP:sms:GB", "100")
