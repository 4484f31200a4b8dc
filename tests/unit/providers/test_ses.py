from uuid import uuid4

import pytest
from aiobotocore.credentials import AioCredentials

from ledger.values import Mail, Refused
from providers.contract import Sending
from providers.mail_address import unsendable, wire_address, wire_sender
from providers.ses import Ses
from providers.ses_wire import Reply, Wire

CONTENT = Mail(sender="Acme <no-reply@acme.example>", subject="Hi", html="<p>Hi</p>", text="Hi")


class NoWire(Wire):
    """Stands where the line to SES would be: a message that is refused beforehand makes no request at all."""

    async def post(self, *_: object, **__: object) -> Reply:
        raise AssertionError("a request was made")


@pytest.mark.parametrize("ending", ["\r\n", "\n", "\r", "\0"])
async def test_a_line_break_in_a_header_is_refused_before_any_request(ending: str):
    broken = [
        Mail(sender=f"a@acme.example{ending}Bcc: b@acme.example", subject="Hi", html="", text=""),
        Mail(sender="a@acme.example", subject=f"Hi{ending}Bcc: b@acme.example", html="", text=""),
    ]
    for content in broken:
        assert await sent("jane@acme.example", content) == Refused("header_injection")
    assert await sent(f"jane@acme.example{ending}", CONTENT) == Refused("header_injection")


async def test_content_that_utf_8_cannot_carry_is_refused_before_any_request():
    lone = Mail(sender="a@acme.example", subject="Hi", html="\ud800", text="")
    assert await sent("jane@acme.example", lone) == Refused("content_not_unicode")


@pytest.mark.parametrize(
    "address",
    [
        "",
        "jane",
        "@acme.example",
        "jane@",
        "jane@localhost",
        "jane@[192.0.2.1]",
        "jane doe@acme.example",
        "jane@acme..example",
        "jane@acme.example.",
        "jane@acme.example,joe@acme.example",
        "jane@acme.example, joe",
        "Jane <jane@acme.example>",
        "jane@acme.example;joe@acme.example",
        "jane(comment)@acme.example",
        '"jane"@acme.example',
        "jané@acme.example",
        "jane@acme.example\u2028",
        "jane@a@acme.example",
        "jane@\ud800.example",
        "jane@xn--\u00df..example",
        f"{'j' * 65}@acme.example",
        f"jane@{'a.' * 130}example",
        f"jane@{'a' * 64}.example",
    ],
)
async def test_an_address_that_ses_cannot_take_is_refused_before_any_request(address: str):
    assert isinstance(await sent(address, CONTENT), Refused)


@pytest.mark.parametrize(
    "address",
    [
        "jane+tag@acme.example",
        "o'hara@mail.acme.example",
        "a..b.@docomo.example",
        "_@x-y.example",
        "!#$%&*/=?^`{|}~@a.bc",
    ],
)
def test_an_odd_but_real_address_goes_out_as_it_is(address: str):
    assert wire_address(address) == address


def test_an_international_domain_goes_out_in_a_labels_by_the_rules_of_2008():
    # The older rules would make strasse.de of it: somebody else's domain.
    assert wire_address("jane@straße.de") == "jane@xn--strae-oqa.de"
    assert wire_address("jane@BÜCHER.example") == "jane@xn--bcher-kva.example"


def test_a_senders_name_beyond_ascii_goes_out_as_an_encoded_word():
    assert wire_sender("Acme <no-reply@acme.example>") == "Acme <no-reply@acme.example>"
    assert wire_sender("Grüße <no-reply@acme.example>") == "=?utf-8?b?R3LDvMOfZQ==?= <no-reply@acme.example>"


def test_other_scripts_and_symbols_are_sent_as_they_are():
    content = Mail(sender="a@acme.example", subject="你好 🎉 \t", html="<p>שלום</p>", text="a\r\nb\u2028c")
    assert unsendable("jane@acme.example", content) is None


async def sent(address: str, content: Mail) -> object:
    sending = Sending(notification=uuid4(), attempt=uuid4(), address=address, content=content)
    keys = AioCredentials("AKID", "secret")
    return await Ses(NoWire(), keys, url="https://ses.acme.example/", region="eu-west-1").send(sending)
