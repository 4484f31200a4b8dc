from pathlib import Path

import pytest

from ledger.values import Accepted, Outcome, Postponed
from providers.ses import Ses
from tests.integration.providers.stub import answers, http, stub, then_closes
from tests.integration.providers.vendors import SES


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment in which the SDK finds nothing: no keys, no files, no metadata service."""
    for name in ("AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


async def outcome_at(endpoint: str, *, keys: bool = True) -> Outcome:
    key, secret = ("AKID", "secret") if keys else (None, None)
    ses = await Ses.open(region="eu-west-1", endpoint_url=endpoint, access_key_id=key, secret_access_key=secret)
    try:
        return await ses.send(SES.sending)
    finally:
        await ses.aclose()


async def test_the_sdks_own_chain_gives_the_keys_when_none_are_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDCHAIN")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    async with stub(answers(SES.accepted)) as server:
        assert await outcome_at(server.url, keys=False) == Accepted(SES.reference(SES.sending))
    assert b"Credential=AKIDCHAIN/" in server.heads[0]


async def test_without_keys_nothing_is_sent_and_an_operator_is_called():
    async with stub(answers(SES.accepted)) as server:
        assert await outcome_at(server.url, keys=False) == Postponed("credentials", ours=True)
        assert server.connections == 0


async def test_requests_go_through_the_environments_proxy(monkeypatch: pytest.MonkeyPatch):
    async with stub(answers(SES.accepted)) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        assert await outcome_at("http://ses.acme.example") == Accepted(SES.reference(SES.sending))
    assert proxy.heads[0].startswith(b"POST http://ses.acme.example/v2/email/outbound-emails ")


async def test_a_proxy_that_lets_nothing_through_is_certainly_not_sent_by(monkeypatch: pytest.MonkeyPatch):
    async with stub(then_closes(http(403, b"")), reads_body=False) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("https_proxy", proxy.url)
        assert await outcome_at("https://ses.acme.example") == Postponed("connect_failed")
    assert proxy.bodies == []


async def test_a_mail_is_signed_and_carries_its_configuration_set():
    async with stub(answers(SES.accepted)) as server:
        ses = await SES.open(server.url, max_connections=1, hurried=False)
        await ses.send(SES.sending)
        await ses.aclose()
    assert b"Authorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/" in server.heads[0]
    assert b"/eu-west-1/ses/aws4_request" in server.heads[0]
    assert b'"ConfigurationSetName":"notifications"' in server.bodies[0]
