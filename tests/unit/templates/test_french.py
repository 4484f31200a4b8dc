import re
from pathlib import Path

import pytest

from ledger.values import Channel, Personal, TextMessage
from templates.catalogue import load
from templates.files import MESSAGES, names_in
from templates.rendering import Renderer
from templates.samples import sample
from templates.segments import is_gsm7, segments_of

CATALOGUE = load()
NBSP = "\N{NO-BREAK SPACE}"
FRENCH = sorted([*MESSAGES.glob("*/fr/*"), MESSAGES / "_shared" / "fr.html"])
_UNSAID = re.compile(r"\{[{%].*?[%}]\}|<[^>]*>|https?://\S+", re.DOTALL)


def words(path: Path) -> str:
    """What a file says, without what Jinja and HTML read."""
    return _UNSAID.sub("0", path.read_text(encoding="utf-8")).replace("&nbsp;", NBSP)


@pytest.mark.parametrize("name", names_in(MESSAGES))
def test_all_that_is_said_in_english_is_said_in_french(name: str):
    assert {path.name for path in (MESSAGES / name / "fr").iterdir()} == {
        path.name for path in (MESSAGES / name / "en").iterdir()
    }


@pytest.mark.parametrize("path", FRENCH, ids=lambda path: path.relative_to(MESSAGES).as_posix())
def test_a_mark_in_two_parts_is_held_to_its_word(path: Path):
    said = words(path)
    assert re.findall(rf"[^{NBSP}][:;!?»](?=[\s0]|$)", said) == []
    assert re.findall(rf"«[^{NBSP}]", said) == []


@pytest.mark.parametrize("path", FRENCH, ids=lambda path: path.relative_to(MESSAGES).as_posix())
def test_apostrophes_are_those_of_print_save_where_an_sms_would_cost_more(path: Path):
    assert ("\N{RIGHT SINGLE QUOTATION MARK}" if path.name == "sms.txt" else "'") not in words(path)


@pytest.mark.parametrize("name", [name for name in names_in(MESSAGES) if (MESSAGES / name / "fr" / "sms.txt").exists()])
def test_an_sms_in_french_takes_one_segment(name: str):
    renderer = Renderer(sender=CATALOGUE.sender, sms_sender="x", segments=CATALOGUE.sms_segments)
    for month in range(1, 13):
        data = sample(CATALOGUE.kinds[name].data)
        data |= {key: f"2031-{month:02}-01" for key, value in data.items() if value == "2031-05-04"}
        said = renderer.render(name, Channel.SMS, locale="fr", personal=Personal(name="Ada", data=data)).content
        assert isinstance(said, TextMessage)
        assert is_gsm7(said.text)
        assert segments_of(said.text) == 1
