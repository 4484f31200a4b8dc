from datetime import timedelta

import pytest

from ops.errors import SettingsError
from ops.settings import load

ARCHIVE = "ARCHIVE_URL must be file:///a/directory or s3://bucket/prefix"
CLASSES = "CONTENT_DAYS must be days by retention class, such as security=14, marketing=30, standard=90; each once"


@pytest.mark.parametrize("url", ["", "file:///var/archive", "s3://bucket", "s3://bucket/prefix"])
def test_an_archive_is_a_directory_or_a_bucket(url: str):
    assert load({"ARCHIVE_URL": url}, dotenv=None).archive_url == url


@pytest.mark.parametrize("url", ["/var/archive", "file:///", "file://host/archive", "s3:///prefix", "https://bucket"])
def test_another_archive_is_refused(url: str):
    with pytest.raises(SettingsError) as raised:
        load({"ARCHIVE_URL": url}, dotenv=None)
    assert raised.value.faults == (ARCHIVE,)


def test_the_time_of_content_is_told_by_class():
    kept = load({"CONTENT_DAYS": "security = 7, standard=400"}, dotenv=None).content_kept()
    assert kept == {"security": timedelta(days=7), "standard": timedelta(days=400)}
    assert set(load({}, dotenv=None).content_kept()) == {"security", "marketing", "standard"}
    assert load({"CONTENT_DAYS": ""}, dotenv=None).content_kept() == {}


@pytest.mark.parametrize("text", ["security", "security=x", "other=7", "security=7, security=8", "security=-1"])
def test_another_time_of_content_is_refused(text: str):
    with pytest.raises(SettingsError) as raised:
        load({"CONTENT_DAYS": text}, dotenv=None)
    assert raised.value.faults == (CLASSES,)


@pytest.mark.parametrize("weeks", ["12", "521", "x"])
def test_a_week_stays_for_as_long_as_the_intake_may_answer_from_it(weeks: str):
    with pytest.raises(SettingsError) as raised:
        load({"ARCHIVE_AFTER": weeks}, dotenv=None)
    assert raised.value.faults == ("ARCHIVE_AFTER must be a whole number from 13 to 520",)
