import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest

from ledger.values import Accepted, Outcome, Postponed, Refused
from providers.contract import Sending
from providers.fakes.smtp import Behaviour, FakeSmtp
from providers.smtp import Smtp
from providers.smtp_url import Relay
from providers.smtp_wire import MAILS_PER_CONNECTION, Connections
from tests.integration.providers.certificates import server_context
from tests.integration.providers.stub import SMTP, Conduct, Exchange, answers, resets, stub, then_closes
from tests.integration.providers.vendors import RELAY
from tests.support.service import until

LOGIN = ("service", "s3cret")


@asynccontextmanager
async def relay(tls: ssl.SSLContext | None = None, login: tuple[str, str] | None = None) -> AsyncIterator[FakeSmtp]:
    fake = await FakeSmtp.start(tls=tls, login=login)
    try:
        yield fake
    finally:
        await fake.stop()


@asynccontextmanager
async def sender(url: str, *, max_connections: int = 8, deadline: float = 20) -> AsyncIterator[Smtp]:
    smtp = await Smtp.open(url, max_connections=max_connections, deadline=timedelta(seconds=deadline))
    try:
        yield smtp
    finally:
        await smtp.aclose()


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """The TLS settings of a server that this process trusts."""
    settings, trusted = server_context(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    return settings


def mail(address: str = "jane@acme.example", *, text: str = "Hi") -> Sending:
    content = msgspec.structs.replace(RELAY.sending.mail, text=text)
    return Sending(notification=uuid4(), attempt=uuid4(), address=address, content=content)


async def outcome_at(url: str, sending: Sending | None = None, *, deadline: float = 20) -> Outcome:
    async with sender(url, deadline=deadline) as smtp:
        return await smtp.send(sending or mail())


async def until_gone(fake: FakeSmtp) -> None:
    """Wait until the relay has seen all its clients leave."""
    async with asyncio.timeout(10):
        await asyncio.gather(*fake._tasks)


def with_login(url: str, password: str = LOGIN[1]) -> str:
    return url.replace("://", f"://{LOGIN[0]}:{password}@")


async def test_a_mail_goes_below_starttls_to_a_relay_that_wants_a_login(context: ssl.SSLContext):
    async with relay(context, LOGIN) as fake:
        assert isinstance(await outcome_at(with_login(fake.url)), Accepted)
        assert [request.to for request in fake.requests] == ["jane@acme.example"]


async def test_a_mail_goes_over_tls_from_the_first_byte(context: ssl.SSLContext):
    async with relay() as fake:
        listener = await asyncio.start_server(fake._serve, "127.0.0.1", 0, ssl=context)
        async with listener:
            port = listener.sockets[0].getsockname()[1]
            assert isinstance(await outcome_at(f"smtps://127.0.0.1:{port}"), Accepted)
            await until_gone(fake)


async def test_where_starttls_is_not_offered_nothing_is_sent_and_no_password_is_told():
    async with stub(answers(RELAY.accepted), SMTP) as server:
        url = with_login(f"smtp://127.0.0.1:{server.port}")
        assert await outcome_at(url) == Postponed("extension_missing", ours=True)
        assert (server.heads, server.said) == ([], ["EHLO"])


async def test_a_certificate_that_nobody_vouches_for_is_a_fault_of_ours(tmp_path: Path):
    context, _ = server_context(tmp_path)
    async with relay(context) as fake:
        assert await outcome_at(fake.url) == Postponed("tls_failed", ours=True)
        assert fake.requests == []


async def test_a_certificate_of_another_host_is_a_fault_of_ours(context: ssl.SSLContext):
    async with relay(context) as fake:
        assert await outcome_at(fake.url.replace("127.0.0.1", "localhost")) == Postponed("tls_failed", ours=True)


async def test_a_wrong_password_is_tried_once_and_is_a_fault_of_ours(context: ssl.SSLContext):
    async with relay(context, LOGIN) as fake:
        assert await outcome_at(with_login(fake.url, "wr0ng")) == Postponed("535-5.7.8", ours=True)
        assert fake.sessions == 1


async def test_a_new_password_is_used_from_the_next_mail_on_and_the_mail_under_way_is_not_disturbed(
    context: ssl.SSLContext,
):
    async with relay(context, LOGIN) as fake, sender(with_login(fake.url)) as smtp:
        assert isinstance(await smtp.send(mail()), Accepted)
        fake.behaviour = Behaviour(delay=timedelta(seconds=1))
        under_way = asyncio.create_task(smtp.send(mail()))
        await until(lambda: len(fake.requests) == 2, "the mail under way")
        fake.login = (LOGIN[0], "new")
        await smtp.use_url(with_login(fake.url, "new"))
        fake.behaviour = None
        assert isinstance(await smtp.send(mail()), Accepted)
        assert isinstance(await under_way, Accepted)
        assert fake.sessions == 2


async def test_a_relay_that_knows_no_login_of_ours_is_a_fault_of_ours(context: ssl.SSLContext):
    async with relay(context) as fake:
        assert await outcome_at(with_login(fake.url)) == Postponed("extension_missing", ours=True)


async def test_without_a_login_that_is_wanted_an_operator_is_called(context: ssl.SSLContext):
    async with relay(context, LOGIN) as fake:
        assert await outcome_at(fake.url) == Postponed("530-5.7.0", ours=True)


def in_the_content(conduct: Conduct) -> Conduct:
    """Return a conduct that begins after MAIL: it leads to the content, and there does what is given."""

    async def conducted(exchange: Exchange) -> None:
        for reply in (b"250 Ok\r\n", b"250 Ok\r\n", b"354 Go on\r\n"):
            exchange.writer.write(reply)
            if not reply.startswith(b"354"):
                await exchange.reader.readline()
        await conduct(exchange)

    return conducted


async def reads_no_more(exchange: Exchange) -> None:
    exchange.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await exchange.writer.wait_closed()


def large() -> Sending:
    """A mail that no kernel takes in whole while nobody reads it."""
    return mail(text="0123456789\n" * 730_000)


@pytest.mark.parametrize(
    "conduct",
    [
        pytest.param(resets, id="reset"),
        pytest.param(then_closes(b""), id="closed"),
        pytest.param(then_closes(b"552 5.3.4 Too large\r\n"), id="refused-and-closed"),
    ],
)
async def test_i06_a_mail_that_breaks_off_before_its_final_dot_is_certainly_not_sent(conduct: Conduct):
    async with stub(in_the_content(conduct), SMTP, reads_body=False) as server:
        assert await outcome_at(RELAY.endpoint(server.port), large()) == Postponed("connection_lost")
        assert server.connections == 1


async def test_i06_a_mail_that_the_relay_stops_to_read_before_its_final_dot_is_certainly_not_sent():
    async with stub(in_the_content(reads_no_more), SMTP, reads_body=False) as server:
        assert await outcome_at(RELAY.endpoint(server.port), large(), deadline=4) == Postponed("timeout")
        assert server.connections == 1


async def test_what_a_relay_says_before_the_final_dot_is_not_the_answer_to_it():
    async def refuses(exchange: Exchange) -> None:
        exchange.writer.write(b"554 5.7.1 No\r\n")

    async with stub(refuses, SMTP) as server:
        server.early = {"DATA": b"354 Go on\r\n250 2.0.0 Ok: queued\r\n"}
        assert await outcome_at(RELAY.endpoint(server.port)) == Refused("554-5.7.1")


async def test_connections_are_kept_and_never_more_than_allowed():
    async with relay() as fake:
        # However slow the machine is, everybody's turn comes.
        patience = timedelta(seconds=120)
        smtp = await Smtp.open(fake.url, max_connections=5, deadline=patience, connect_timeout=patience)
        outcomes = await asyncio.gather(*(smtp.send(mail()) for _ in range(128)))
        await smtp.aclose()
        assert {type(outcome) for outcome in outcomes} == {Accepted}
        assert fake.sessions <= 5
        assert len({request.tags["attempt"] for request in fake.requests}) == 128


async def test_a_connection_that_has_carried_enough_is_left():
    async with relay() as fake, sender(fake.url) as smtp:
        for _ in range(MAILS_PER_CONNECTION):
            await smtp.send(mail())
        assert fake.sessions == 1
        await until_gone(fake)
        assert isinstance(await smtp.send(mail()), Accepted)
        assert fake.sessions == 2


async def test_a_connection_that_the_relay_closed_meanwhile_is_not_used_again():
    async with relay() as fake, sender(fake.url) as smtp:
        await smtp.send(mail())
        for writer in fake._tasks.values():
            writer.write(b"421 4.4.2 Idle for too long\r\n")
            writer.close()
        await until_gone(fake)
        await until(lambda: not smtp._connections._idle[0].client.is_connected, "our end learns of it")
        assert isinstance(await smtp.send(mail()), Accepted)
        assert fake.sessions == 2


async def test_a_connection_that_nobody_uses_is_left():
    async with relay() as fake:
        patience = timedelta(seconds=5)
        connections = Connections(
            Relay.of(fake.url),
            None,
            limit=1,
            queueing=patience,
            patience=patience,
            keep_alive=timedelta(milliseconds=20),
        )
        smtp = Smtp(connections)
        assert isinstance(await smtp.send(mail()), Accepted)
        await until_gone(fake)
        assert connections._idle == []
        assert isinstance(await smtp.send(mail()), Accepted)
        await smtp.aclose()


async def test_a_mail_that_is_refused_leaves_nothing_behind_for_the_next():
    async with relay() as fake, sender(fake.url, max_connections=1) as smtp:
        assert await smtp.send(mail("bounce@sandbox.example")) == Refused("550-5.1.1")
        assert isinstance(await smtp.send(mail()), Accepted)


async def test_closing_leaves_no_connection():
    async with relay() as fake:
        async with sender(fake.url) as smtp:
            await asyncio.gather(*(smtp.send(mail()) for _ in range(4)))
        await until_gone(fake)


async def test_an_international_domain_goes_out_in_a_labels():
    async with relay() as fake:
        assert isinstance(await outcome_at(fake.url, mail("jane@bücher.example")), Accepted)
        assert fake.requests[0].to == fake.requests[0].headers["To"] == "jane@xn--bcher-kva.example"


async def test_an_address_beyond_ascii_goes_to_a_relay_that_takes_it():
    async with relay() as fake:
        assert isinstance(await outcome_at(fake.url, mail("jané@acme.example")), Accepted)
        assert fake.requests[0].to == "jané@acme.example"


async def test_an_address_beyond_ascii_is_refused_where_the_relay_does_not_take_it():
    async with stub(answers(RELAY.accepted), SMTP) as server:
        assert await outcome_at(RELAY.endpoint(server.port), mail("jané@acme.example")) == Refused(
            "smtputf8_not_offered"
        )
        assert server.heads == []


async def test_the_size_is_declared_where_the_relay_asks_for_it():
    async with stub(answers(RELAY.accepted), SMTP) as server:
        server.early = {"EHLO": b"250-stub\r\n250 SIZE 1000\r\n"}
        assert isinstance(await outcome_at(RELAY.endpoint(server.port)), Accepted)
        size = len(server.bodies[0]) - len(b".\r\n")
        assert server.heads[0].startswith(f"MAIL FROM:<no-reply@acme.example> SIZE={size}\r\n".encode())


@pytest.mark.parametrize(
    ("sending", "outcome"),
    [
        (mail("jane"), Refused("address_syntax")),
        (mail("jane@acme.example>\r\nRSET"), Refused("header_injection")),
        (mail("jane@acme.example> SIZE=1"), Refused("address_syntax")),
        (mail("ja\u2028ne@acme.example"), Refused("address_syntax")),
        (mail(text="\ud800"), Refused("content_not_unicode")),
    ],
)
async def test_what_can_be_no_mail_makes_no_connection(sending: Sending, outcome: Outcome):
    async with relay() as fake:
        assert await outcome_at(fake.url, sending) == outcome
        assert fake.sessions == 0


async def test_a_sender_that_is_none_is_a_fault_of_ours():
    sending = mail()
    content = msgspec.structs.replace(sending.mail, sender="Acme")
    async with relay() as fake:
        broken = msgspec.structs.replace(sending, content=content)
        assert await outcome_at(fake.url, broken) == Postponed("sender_syntax", ours=True)
        assert fake.sessions == 0
