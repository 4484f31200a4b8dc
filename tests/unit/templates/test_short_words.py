"""What an SMS and a push say: short, by the shop's name, and nothing that a locked screen should not show."""

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jinja2 import TemplateError

from ledger.values import Channel, Content, Personal, PushMessage, TextMessage
from templates.catalogue import load
from templates.rendering import MAX_PUSH_BODY, MAX_TITLE, Rendered, Renderer, RenderError
from templates.segments import is_gsm7, segments_of
from tests.unit.templates.samples import NOW, body, sample

CATALOGUE = load()
NUMBER = "+15005550006"
ORDER = "5b0a7a7e-2f63-47e7-9d1e-3f8a4b6c7d01"

TEXTS = {
    "two_factor_code": (
        "TwoFactorAuthCodeEvent",
        (
            "Example Shop: 493817 is your sign-in code. Never share it; our staff will not ask for it. Not you? Change "
            "your password."
        ),
    ),
    "order_confirmed": (
        "OrderConfirmedEvent",
        f"Example Shop: Thank you! Your order {ORDER} for £27.00 is confirmed. See it: https://shop.example/orders/5b0a",
    ),
    "order_shipped": (
        "OrderShippedEvent",
        (
            "Example Shop: Your order is on its way with Royal Mail, expected 24 November 2026. Follow it: "
            "https://track.example/RM123456785GB"
        ),
    ),
    "payment_failed": (
        "PaymentFailedEvent",
        (
            f"Example Shop: Your payment for order {ORDER} did not go through. Choose how to pay: "
            "https://shop.example/pay/5b0a"
        ),
    ),
}
PUSHES = {
    "order_shipped": (
        "OrderShippedEvent",
        PushMessage(
            "Your order is on its way",
            "Royal Mail has your parcel, expected on 24 November 2026. Tap to follow it.",
            "https://track.example/RM123456785GB",
        ),
    ),
    "order_delivered": (
        "OrderDeliveredEvent",
        PushMessage("Your order has arrived", "Tap to tell us how it was.", "https://shop.example/review/5b0a"),
    ),
    "back_in_stock": (
        "ProductBackInStockEvent",
        PushMessage(
            "Back in stock",
            "Something that you were waiting for is available again. Tap to see it.",
            "https://shop.example/p/31",
        ),
    ),
    "flash_sale": (
        "FlashSaleAnnouncedEvent",
        PushMessage(
            "Black Friday: 20% off",
            "Until 30 November 2026, 23:59 UTC. Tap to see the offers.",
            "https://shop.example/sale",
        ),
    ),
}


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(sender=CATALOGUE.sender, sms_sender=NUMBER, segments=CATALOGUE.sms_segments)


def said(renderer: Renderer, message_type: str, channel: Channel, **changes: Any) -> Content:
    """Render what a sample makes, on a channel of its kind or the one that it falls back to."""
    _, (wanted, *_) = CATALOGUE.read(body(sample(message_type, **changes)), now=NOW, channels=set(Channel))
    return renderer.render(wanted.template, channel, locale=wanted.locale, personal=wanted.personal).content


def text_of(renderer: Renderer, message_type: str, **changes: Any) -> str:
    content = said(renderer, message_type, Channel.SMS, **changes)
    assert isinstance(content, TextMessage)
    return content.text


def push_of(renderer: Renderer, message_type: str, **changes: Any) -> PushMessage:
    content = said(renderer, message_type, Channel.PUSH, **changes)
    assert isinstance(content, PushMessage)
    return content


def test_every_kind_that_names_a_channel_has_words_that_are_looked_at_here():
    kinds = CATALOGUE.kinds.values()
    assert {kind.type for kind in kinds if Channel.SMS in kind.every_channel} == TEXTS.keys()
    assert {kind.type for kind in kinds if Channel.PUSH in kind.every_channel} == PUSHES.keys()


@pytest.mark.parametrize(("message_type", "text"), TEXTS.values(), ids=TEXTS)
def test_an_sms_says_who_writes_and_fits_one_segment(renderer: Renderer, message_type: str, text: str):
    assert said(renderer, message_type, Channel.SMS) == TextMessage(NUMBER, text)
    assert text.startswith("Example Shop: ")
    assert is_gsm7(text)
    assert segments_of(text) == 1


@pytest.mark.parametrize(("message_type", "push"), PUSHES.values(), ids=PUSHES)
def test_a_push_says_what_happened_and_leads_there(renderer: Renderer, message_type: str, push: PushMessage):
    assert push_of(renderer, message_type) == push


@pytest.mark.parametrize(("message_type", "push"), PUSHES.values(), ids=PUSHES)
def test_i18_a_push_shows_a_locked_screen_nothing_of_the_person(
    renderer: Renderer, message_type: str, push: PushMessage
):
    shown = f"{push.title} {push.body}"
    for private in ("Ada", "ada@", "Blue mug", ORDER, "RM123456785GB", "£", "+44"):
        assert private not in shown


def test_what_may_be_absent_may_be_absent(renderer: Renderer):
    assert text_of(renderer, "OrderConfirmedEvent", orderConfirmationLink=None).endswith("is confirmed.")
    assert "Royal Mail. Follow" in text_of(renderer, "OrderShippedEvent", estimatedDeliveryDate=None)
    assert "parcel. Tap" in push_of(renderer, "OrderShippedEvent", estimatedDeliveryDate=None).body
    assert push_of(renderer, "OrderDeliveredEvent", feedbackLink=None) == PushMessage(
        "Your order has arrived", "We hope that you like it."
    )


def test_markup_and_expressions_are_words_like_others(renderer: Renderer):
    assert "with <b>{{ 7 * 7 }}</b> & Co," in text_of(
        renderer, "OrderShippedEvent", shippingCarrier="<b>{{ 7 * 7 }}</b> & Co"
    )


@pytest.mark.parametrize(("carrier", "segments"), [("Żabka Paczka", 2), ("顺丰速运", 2), ("Poste 🎉", 2)])
def test_words_of_every_script_arrive_and_are_counted(renderer: Renderer, carrier: str, segments: int):
    text = text_of(renderer, "OrderShippedEvent", shippingCarrier=carrier)
    assert carrier in text
    assert (is_gsm7(text), segments_of(text)) == (False, segments)


@pytest.mark.parametrize("channel", [Channel.SMS, Channel.PUSH])
def test_i26_what_the_provider_is_given_is_what_the_digest_is_of(renderer: Renderer, channel: Channel):
    again = Renderer(sender=CATALOGUE.sender, sms_sender=NUMBER)
    contents = [said(one, "OrderShippedEvent", channel) for one in (renderer, again)]
    written = msgspec.json.encode(contents[0], order="deterministic")
    assert {content.digest() for content in contents} == {hashlib.sha256(written).digest()}
    assert said(renderer, "OrderShippedEvent", channel, shippingCarrier="DHL").digest() != contents[0].digest()


def test_i26_the_digest_moves_with_every_part_of_it():
    told = [
        TextMessage("a", "b"),
        TextMessage("b", "a"),
        PushMessage("a", "b"),
        PushMessage("b", "a"),
        PushMessage("a", "b", "https://shop.example"),
    ]
    assert len({content.digest() for content in told}) == len(told)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder with a template `note` in English that says what it is given, by SMS and by push."""
    write(tmp_path, "en", sms="{{ brand }}: {{ words }}", push_title="{{ words }}", push_body="{{ words }}")
    return tmp_path


def write(folder: Path, locale: str, **files: str) -> None:
    place = folder / "note" / locale
    place.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (place / f"{name}.txt").write_text(text)


def note(folder: Path, channel: Channel, *, locale: str = "en", segments: int = 3, **data: Any) -> Rendered:
    renderer = Renderer(
        sender="Shop <shop@shop.example>", sms_sender="Shop", segments={"note": segments}, messages=folder
    )
    return renderer.render("note", channel, locale=locale, personal=Personal(data=data))


def failure(folder: Path, channel: Channel, **data: Any) -> RenderError:
    with pytest.raises(RenderError) as caught:
        note(folder, channel, **data)
    return caught.value


def test_controls_and_overrides_do_not_get_through_and_lines_stay_lines(own: Path):
    words = "a\r\n b\t\x07c \u202egnp.exe\u2029\u2066d \n"
    assert note(own, Channel.SMS, words=words).content == TextMessage("Shop", "Shop: a\nb c gnp.exe\nd")
    assert note(own, Channel.PUSH, words=words).content == PushMessage("a b c gnp.exe d", "a\nb c gnp.exe\nd")


@pytest.mark.parametrize(("length", "segments"), [(154, 1), (155, 2), (453, 3), (454, 4)])
def test_an_sms_may_be_as_long_as_its_kind_allows(own: Path, length: int, segments: int):
    content = note(own, Channel.SMS, segments=segments, words="x" * length).content
    assert isinstance(content, TextMessage)
    assert segments_of(content.text) == segments
    if segments > 1:
        with pytest.raises(RenderError, match=f"too_many_segments .{segments}, where {segments - 1} may be"):
            note(own, Channel.SMS, segments=segments - 1, words="x" * length)


@pytest.mark.parametrize(
    ("words", "detail"), [("x" * 454, "4, where 3 may be"), ("ж" * 250, "4, where 3 may be"), ("€" * 250, "4, where 3")]
)
def test_an_sms_that_grew_too_long_is_not_sent_and_not_cut(own: Path, words: str, detail: str):
    error = failure(own, Channel.SMS, words=words)
    assert error.code == "too_many_segments"
    assert error.detail.startswith(detail)


def test_the_most_segments_of_the_kinds_that_share_a_template_count(tmp_path: Path):
    path = tmp_path / "catalogue.yaml"
    kind = "{category: transactional, lane: normal, doubt: resend, channels: [sms], template: note, sms_segments: %d}"
    other = "{category: security, lane: low, doubt: drop, channels: [sms]}"
    kinds = f"{{one: {kind % 1}, two: {kind % 2}, other: {other}}}"
    path.write_text(f"sender: a@b.example\nlocale: en\nmessages: {{}}\nnotifications: {kinds}\n")
    assert load(path, messages=tmp_path).sms_segments == {"note": 2, "other": 3}


def test_a_push_is_cut_to_what_a_screen_shows(own: Path):
    content = note(own, Channel.PUSH, words="x" * 400).content
    assert content == PushMessage("x" * (MAX_TITLE - 1) + "…", "x" * (MAX_PUSH_BODY - 1) + "…")


def test_a_push_that_leads_nowhere_has_no_link(own: Path):
    write(own, "en", push_link="{% if target is defined %}{{ target }}{% endif %}\n")
    assert note(own, Channel.PUSH, words="x").content == PushMessage("x", "x")
    leading = note(own, Channel.PUSH, words="x", target="https://a.example/").content
    assert leading == PushMessage("x", "x", "https://a.example/")


@pytest.mark.parametrize("target", ["javascript:alert(1)", "shop://orders", "https://a.example/ b", "/orders"])
def test_a_push_leads_to_a_web_address_alone(own: Path, target: str):
    write(own, "en", push_link="{{ target }}")
    error = failure(own, Channel.PUSH, words="x", target=target)
    assert (error.code, error.detail) == ("unsafe_link", "push_link.txt")


def test_a_push_that_is_larger_than_the_provider_takes_is_not_sent(own: Path):
    write(own, "en", push_link="https://a.example/{{ path }}")
    error = failure(own, Channel.PUSH, words="€" * 400, path="x" * 1900)
    assert (error.code, error.detail) == ("too_large", "the push is over 3000 bytes")


@pytest.mark.parametrize(
    ("channel", "part"), [(Channel.SMS, "sms.txt"), (Channel.PUSH, "push_title.txt"), (Channel.PUSH, "push_body.txt")]
)
def test_nothing_is_not_said(own: Path, channel: Channel, part: str):
    write(own, "en", **{part.removesuffix(".txt"): "\u202e{{ nothing }}\r\n"})
    error = failure(own, channel, words="x", nothing=" ")
    assert (error.code, error.detail) == ("empty", part)


@pytest.mark.parametrize("channel", [Channel.SMS, Channel.PUSH])
def test_i18_an_error_names_the_place_and_never_a_value(own: Path, channel: Channel):
    part = "sms" if channel is Channel.SMS else "push_body"
    for text, code in [("{{ person.name }}", "missing_data"), ("\n{{ words | link }}", "unsafe_link")]:
        write(own, "en", **{part: text})
        error = failure(own, channel, words="Ada-Lovelace", person={})
        assert (error.code, error.detail.split(" line ")[0]) == (code, f"note/en/{part}.txt")
        assert "Lovelace" not in f"{error} {error.__cause__} {error.__context__}"


@pytest.mark.parametrize(
    ("locale", "used"), [("fr-CH", "fr"), ("fr", "fr"), ("en-GB", "en"), ("zh-Hant-TW", "en"), ("de-AT", "en")]
)
def test_each_channel_is_said_in_its_own_nearest_locale(own: Path, locale: str, used: str):
    """German has words for a push alone, so that an SMS is said in English."""
    write(own, "fr", sms="{{ lang }}: {{ words }}")
    write(own, "de", push_title="{{ lang }}", push_body="{{ words }}")
    assert note(own, Channel.SMS, locale=locale, words="x").locale == used
    assert note(own, Channel.PUSH, locale=locale, words="x").locale == ("de" if locale == "de-AT" else "en")


def test_a_channel_that_a_template_has_no_words_for_is_an_error(own: Path):
    assert (failure(own, Channel.EMAIL).code, failure(own, Channel.EMAIL).detail) == (
        "no_template",
        "nothing for email in en",
    )


def test_half_of_a_push_stops_the_start(own: Path):
    (own / "note" / "en" / "push_body.txt").unlink()
    with pytest.raises(TemplateError):
        note(own, Channel.PUSH, words="x")
