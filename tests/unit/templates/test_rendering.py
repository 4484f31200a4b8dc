from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from jinja2 import TemplateError

from ledger.values import UNSUBSCRIBE_LINK, Channel, Mail, Personal, Wanted
from templates.catalogue import load
from templates.files import digest_of, files_in
from templates.rendering import KEPT_VERSIONS, MAX_BODY, Rendered, Renderer, RenderError
from tests.unit.templates.samples import NOW, body, sample

CATALOGUE = load()
# Every kind that is said by e-mail, and the message that asks for it.
SERVED = {
    rule.kind.type: message_type
    for (message_type, _), rules in CATALOGUE.rules.items()
    for rule in rules
    if Channel.EMAIL in rule.kind.channels
}
VOID = {"meta", "br"}


class Page(HTMLParser):
    """A page's tags, links and words; fails on a tag that is not closed in its turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.extend((name, value or "") for name, value in attrs)
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(sender=CATALOGUE.sender)


def wanted(message_type: str, **changes: Any) -> Wanted:
    _, found = CATALOGUE.read(body(sample(message_type, **changes)), now=NOW, channels={Channel.EMAIL})
    return found[0]


def rendered(renderer: Renderer, message_type: str, **changes: Any) -> Rendered:
    asked = wanted(message_type, **changes)
    return renderer.render(asked.template, asked.channel, locale=asked.locale, personal=asked.personal)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder with a template `note` in English that shows what it is given."""
    write(tmp_path, "en", subject="Note: {{ title }}", html="<p>{{ title }}</p>", text="{{ title }}")
    return tmp_path


def write(folder: Path, locale: str, *, subject: str, html: str, text: str) -> None:
    place = folder / "note" / locale
    place.mkdir(parents=True, exist_ok=True)
    (place / "subject.txt").write_text(subject)
    (place / "body.html").write_text(html)
    (place / "body.txt").write_text(text)


def note(folder: Path, *, locale: str = "en", **data: Any) -> Rendered:
    renderer = Renderer(sender="Shop <shop@shop.example>", messages=folder)
    return renderer.render("note", Channel.EMAIL, locale=locale, personal=Personal(data=data))


def mail(rendered: Rendered) -> Mail:
    assert isinstance(rendered.content, Mail)
    return rendered.content


def failure(folder: Path, **data: Any) -> RenderError:
    with pytest.raises(RenderError) as caught:
        note(folder, **data)
    return caught.value


@pytest.mark.parametrize("message_type", SERVED.values())
def test_a_sample_becomes_an_accessible_mail(renderer: Renderer, message_type: str):
    content = mail(rendered(renderer, message_type))
    page = Page(content.html)
    assert ("lang", "en") in page.attributes
    assert page.tags.count("h1") == page.tags.count("title") == 1
    assert "script" not in page.tags
    assert len(content.html) < 8000
    assert content.sender == "Example Shop <notifications@shop.example>"
    assert "\n" not in content.subject
    assert len(content.text) > 100
    assert "{" not in content.text + page.words


@pytest.mark.parametrize("message_type", SERVED.values())
def test_links_come_from_the_data_and_stand_in_both_parts(renderer: Renderer, message_type: str):
    asked = wanted(message_type)
    given = {str(value) for name, value in asked.personal.data.items() if name.endswith("Link")}
    content = mail(renderer.render(asked.template, asked.channel, locale="en", personal=asked.personal))
    assert {value for name, value in Page(content.html).attributes if name == "href"} - {UNSUBSCRIBE_LINK} == given
    assert all(target in content.text for target in given)


@pytest.mark.parametrize(
    ("message_type", "words"),
    [
        ("UserRegisteredEvent", ["Welcome to Example Shop", "Ada"]),
        ("PasswordResetRequestedEvent", ["Ada", "30 minutes"]),
        (
            "OrderConfirmedEvent",
            ["Ada", "£27.00", "Blue mug", "Tea, loose", "£7.50", "12 Dorset Street", "London W1U 6QS"],
        ),
        ("OrderShippedEvent", ["Ada", "Royal Mail", "RM123456785GB", "24 November 2026", "Blue mug"]),
        ("LowStockWarningEvent", ["Blue mug", "3", "10", "pv-31"]),
        ("EmailVerificationRequestedEvent", ["Ada", "Example Shop", "It was not you?"]),
        ("AccountLockedEvent", ["Ada", "5 failed sign-ins", "It was not you?", "choose a new password"]),
        ("OrderDeliveredEvent", ["Ada", "Blue mug", "5b0a7a7e"]),
        ("OrderCancelledEvent", ["Ada", "Out of stock", "£27.00", "5b0a7a7e"]),
        ("PaymentFailedEvent", ["Ada", "Card declined", "5b0a7a7e"]),
        ("RefundProcessedEvent", ["Ada", "£12.00", "re-771", "Tea, loose", "5b0a7a7e"]),
        ("ProductBackInStockEvent", ["Blue mug"]),
        ("SupportTicketCreatedEvent", ["Ada", "T-1009", "Mug arrived chipped"]),
        ("SupportTicketUpdatedEvent", ["Ada", "T-1009", "A replacement is on its way", "Support Agent"]),
        ("SupportTicketResolvedEvent", ["Ada", "T-1009", "Replaced"]),
        ("FlashSaleAnnouncedEvent", ["Ada", "Black Friday", "20% off", "30 November 2026, 23:59 UTC"]),
    ],
)
def test_both_parts_say_what_the_message_says(renderer: Renderer, message_type: str, words: list[str]):
    content = mail(rendered(renderer, message_type))
    for word in words:
        assert word in Page(content.html).words
        assert word in f"{content.subject}\n{content.text}"


@pytest.mark.parametrize(
    ("message_type", "changes"),
    [
        ("UserRegisteredEvent", {"firstName": None}),
        ("PasswordResetRequestedEvent", {"firstName": None}),
        (
            "OrderConfirmedEvent",
            {
                "firstName": None,
                "orderConfirmationLink": None,
                "orderDetails": {"items": [], "totalAmount": 0, "currency": "CHF"},
            },
        ),
        (
            "OrderConfirmedEvent",
            {
                "orderDetails": {
                    "items": [],
                    "totalAmount": "1.00",
                    "currency": "EUR",
                    "shippingAddress": {"line1": "1", "line2": "2", "city": "3"},
                }
            },
        ),
        ("OrderShippedEvent", {"firstName": None, "trackingNumber": None, "estimatedDeliveryDate": None}),
        ("EmailVerificationRequestedEvent", {"firstName": None}),
        ("AccountLockedEvent", {"firstName": None}),
        ("OrderDeliveredEvent", {"firstName": None, "feedbackLink": None}),
        ("OrderCancelledEvent", {"firstName": None, "reasonForCancellation": None, "refundAmount": None}),
        ("OrderCancelledEvent", {"currency": None}),
        ("PaymentFailedEvent", {"firstName": None, "paymentFailureReason": None}),
        ("RefundProcessedEvent", {"firstName": None, "refundedItems": None}),
        ("SupportTicketCreatedEvent", {"firstName": None}),
        ("SupportTicketUpdatedEvent", {"firstName": None, "updatedBy": None}),
        ("SupportTicketResolvedEvent", {"firstName": None, "satisfactionSurveyLink": None}),
        ("FlashSaleAnnouncedEvent", {"firstName": None}),
    ],
)
def test_what_may_be_absent_may_be_absent(renderer: Renderer, message_type: str, changes: dict[str, Any]):
    content = mail(rendered(renderer, message_type, **changes))
    assert Page(content.html).words
    assert "None" not in content.subject + content.html + content.text


def test_markup_in_the_data_is_shown_and_not_obeyed(renderer: Renderer):
    name = "<script>alert('x')</script>\"><img src=x>"
    content = mail(rendered(renderer, "OrderConfirmedEvent", firstName=name))
    page = Page(content.html)
    assert not {"script", "img"} & set(page.tags)
    assert name in page.words
    assert name in content.text


def test_expressions_in_the_data_are_shown_and_not_evaluated(renderer: Renderer):
    content = mail(rendered(renderer, "UserRegisteredEvent", firstName="{{ 7 * 7 }}"))
    assert "Hello {{ 7 * 7 }}," in content.text
    assert "49" not in content.subject


@pytest.mark.parametrize("name", ["نور الهدى", "שרה", "张伟", "Zoë 🎉", "Łukasz O'Brien & Söhne"])
def test_names_of_every_script_arrive(renderer: Renderer, name: str):
    content = mail(rendered(renderer, "UserRegisteredEvent", firstName=name))
    assert name in content.subject
    assert name in Page(content.html).words
    assert name in content.text


def test_i26_the_same_input_gives_the_same_bytes(renderer: Renderer):
    again = Renderer(sender=CATALOGUE.sender)
    for message_type in SERVED.values():
        assert mail(rendered(renderer, message_type)).digest() == mail(rendered(again, message_type)).digest()


def test_the_version_is_the_one_that_the_catalogue_pins(renderer: Renderer):
    for name, message_type in SERVED.items():
        asked = wanted(message_type)
        assert renderer.version(name) == asked.template_version == rendered(renderer, message_type).template_version
    assert renderer.version("party") == ""


def test_the_version_moves_with_each_file_that_takes_part(own: Path):
    shared = own / "_shared"
    shared.mkdir()
    (shared / "layout.html").write_text("{{ title }}")
    (own / "note" / "en" / "body.txt").write_text("{{ title }}{% include '_shared/layout.html' %}")
    versions = [note(own, title="x").template_version]
    for path in (own / "note" / "en" / "subject.txt", own / "note" / "en" / "body.html", shared / "layout.html"):
        path.write_text("{{ title }}!")
        versions.append(note(own, title="x").template_version)
    assert len(set(versions)) == 4


def versions(folder: Path, *titles: str) -> tuple[Renderer, list[str]]:
    """A renderer that has learnt a version for each of some subjects."""
    renderer, learnt = Renderer(sender="x", messages=folder), []
    for title in titles:
        files = {**files_in(folder, "note"), "en/subject.txt": title}
        renderer.learn("note", files)
        learnt.append(digest_of("note", files))
    return renderer, learnt


def subject(renderer: Renderer, version: str | None) -> str:
    said = renderer.render("note", Channel.EMAIL, locale="en", personal=Personal(data={"title": "x"}), version=version)
    return mail(said).subject


def test_what_was_pinned_is_said_whatever_is_newer(own: Path):
    renderer, learnt = versions(own, "First", "Second")
    assert [subject(renderer, version) for version in learnt] == ["First", "Second"]
    assert subject(renderer, renderer.version("note")) == "Note: x"
    assert all(renderer.knows("note", version) for version in learnt)


def test_a_version_that_nobody_has_is_said_by_the_one_in_the_folder(own: Path):
    renderer, _ = versions(own, "First")
    assert not renderer.knows("note", "0" * 64)
    assert subject(renderer, "0" * 64) == "Note: x"


def test_of_versions_that_are_learnt_those_used_last_are_kept(own: Path):
    renderer, (first, second, *_) = versions(own, *(f"Title {number}" for number in range(KEPT_VERSIONS)))
    assert subject(renderer, first) == "Title 0"
    renderer.learn("note", {**files_in(own, "note"), "en/subject.txt": "One more"})
    assert (renderer.knows("note", first), renderer.knows("note", second)) == (True, False)


def test_what_is_in_the_folder_now_is_said_where_nothing_was_pinned(own: Path):
    write(own, "en", subject="New", html="<p>new</p>", text="new")
    again = note(own, title="x")
    assert (mail(again).subject, again.template_version) == (
        "New",
        Renderer(sender="x", messages=own).version("note"),
    )


@pytest.mark.parametrize(
    ("locale", "used", "passed_over"),
    [
        ("fr-CH", "fr", ("fr-CH",)),
        ("fr", "fr", ()),
        ("FR-ch", "fr", ("fr-CH",)),
        ("en-GB", "en", ("en-GB",)),
        ("pt-br", "en", ("pt-BR", "pt")),
        ("zh-hant-tw", "en", ("zh-Hant-TW", "zh-Hant", "zh")),
        ("sl-1994", "en", ("sl-1994", "sl")),
    ],
)
def test_the_nearest_locale_is_used_and_those_before_it_are_told(
    own: Path, locale: str, used: str, passed_over: tuple[str, ...]
):
    write(own, "fr", subject="Mot: {{ title }}", html="<p lang={{ lang }}></p>", text="{{ title }}")
    said = note(own, locale=locale, title="x")
    assert (said.locale, said.passed_over) == (used, passed_over)


def test_a_subject_is_one_line_without_controls(own: Path):
    title = "a\r\nBcc: all@example.com\t\u2028b\x7f \u202egnp.exe"
    assert mail(note(own, title=title)).subject == "Note: a Bcc: all@example.com b gnp.exe"


def test_a_long_subject_is_cut(own: Path):
    subject = mail(note(own, title="x" * 500)).subject
    assert len(subject) == 200
    assert subject.endswith("x…")


def test_a_folder_without_the_template_is_an_error_by_name(own: Path):
    with pytest.raises(RenderError, match="party: no_template"):
        Renderer(sender="x", messages=own).render("party", Channel.EMAIL, locale="en", personal=Personal())


def test_missing_data_are_an_error_that_names_the_line(own: Path):
    write(own, "en", subject="Note", html="<p>\n\n{{ person.name }}</p>", text="x")
    error = failure(own, person={"secret": "Ada Lovelace"})
    assert (error.code, error.template, error.detail) == ("missing_data", "note", "note/en/body.html line 3")


@pytest.mark.parametrize(
    ("html", "code"),
    [
        ("{{ secret | link }}", "unsafe_link"),
        ("{{ secret | money('GBP') }}", "template_failed"),
        ("{{ secret | day }}", "template_failed"),
        ("{{ secret + 1 }}", "template_failed"),
        ("{{ secret[secret] }}", "missing_data"),
        ("{{ secret.__class__.__mro__ }}", "template_failed"),
        ("{% if secret.nothing %}{% endif %}", "missing_data"),
        ("   ", "empty"),
    ],
)
def test_i18_an_error_names_the_place_and_never_a_value(own: Path, html: str, code: str):
    write(own, "en", subject="Note", html=html, text="x")
    error = failure(own, secret="Ada-Lovelace")
    assert error.code == code
    assert "Lovelace" not in f"{error} {error.__cause__} {error.__context__}"


def test_a_mail_that_grew_too_large_is_not_sent(own: Path):
    error = failure(own, title="é" * (MAX_BODY // 2))
    assert (error.code, error.detail) == ("too_large", f"body.html is over {MAX_BODY} bytes")


def test_a_subject_of_controls_alone_is_none(own: Path):
    write(own, "en", subject="{{ title }}", html="x", text="x")
    assert failure(own, title="\r\n").code == "empty"


@pytest.mark.parametrize("html", ["{% if %}", "{{ title | unknown }}"])
def test_a_template_that_cannot_be_compiled_stops_the_start(own: Path, html: str):
    write(own, "en", subject="x", html=html, text="x")
    with pytest.raises(TemplateError):
        note(own)


def test_a_missing_part_stops_the_start(own: Path):
    (own / "note" / "en" / "body.html").unlink()
    with pytest.raises(TemplateError):
        note(own)


def test_a_text_that_is_not_written_is_made_from_the_html(own: Path):
    write(own, "en", subject="x", html="<p>Hello <b>{{ title }}</b></p><a href='https://x.example'>Look</a>", text="x")
    (own / "note" / "en" / "body.txt").unlink()
    assert mail(note(own, title="you & me")).text == "Hello you & me\n\nLook (https://x.example)\n"


def test_the_display_name_of_the_sender_is_the_brand(own: Path):
    write(own, "en", subject="{{ brand }}", html="<p>{{ brand }}</p>", text="x")
    assert mail(note(own)).subject == "Shop"
    bare = Renderer(sender="shop@shop.example", messages=own)
    assert mail(bare.render("note", Channel.EMAIL, locale="en", personal=Personal())).subject == "shop@shop.example"
