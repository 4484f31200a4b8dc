import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import msgspec
import pytest
from aiohttp import web
from joserfc.jwk import KeySet, OctKey, RSAKey

from api.jwks import JwksKeys, fetch_from
from api.tokens import Authenticator, KeysUnavailableError
from ledger.clock import Clock
from tests.integration.api.tokens import AUDIENCE, EC_KEY, ISSUER, RSA_KEY, claims, signed, token

READ = "notifications:read"


class Issuer:
    """An issuer's server; `keys` None = it answers 500."""

    def __init__(self) -> None:
        self.keys: KeySet | None = KeySet([EC_KEY])
        self.asked = 0
        self.thrice = asyncio.Event()
        self.url = ""

    async def _answer(self, _: web.Request) -> web.Response:
        self.asked += 1
        if self.asked == 3:
            self.thrice.set()
        if self.keys is None:
            return web.Response(status=500)
        return web.json_response(self.keys.as_dict(private=False))


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    issuer = Issuer()
    app = web.Application()
    app.add_routes([web.get("/keys", issuer._answer)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    issuer.url = f"http://127.0.0.1:{runner.addresses[0][1]}/keys"
    yield issuer
    await runner.cleanup()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def authenticator(keys: JwksKeys) -> Authenticator:
    clock = Clock()
    clock.set(datetime.now(UTC))
    return Authenticator(keys, issuer=ISSUER, audience=AUDIENCE, clock=clock)


async def test_a_key_that_the_issuer_has_just_begun_to_use_is_fetched(issuer: Issuer, session: aiohttp.ClientSession):
    keys = JwksKeys(fetch_from(issuer.url, session), pause=timedelta(0))
    verify = authenticator(keys)
    assert (await verify.caller(token(READ))).scopes == {READ}
    issuer.keys = KeySet([RSA_KEY])
    bearer = signed(claims(READ), RSA_KEY, alg="RS256", kid="rsa-1")
    assert (await verify.caller(bearer)).subject == "support"


async def test_unknown_keys_ask_the_issuer_once_whoever_sends_them(issuer: Issuer, session: aiohttp.ClientSession):
    keys = JwksKeys(fetch_from(issuer.url, session), pause=timedelta(minutes=1))
    found = await asyncio.gather(*(keys.find(str(number)) for number in range(50)))
    assert found == [None] * 50
    assert await keys.find("ec-1") is not None
    assert await keys.find("more") is None
    assert issuer.asked == 1


async def test_the_keys_that_are_known_hold_while_the_issuer_is_gone(issuer: Issuer, session: aiohttp.ClientSession):
    keys = JwksKeys(fetch_from(issuer.url, session), pause=timedelta(0))
    assert await keys.find("ec-1") is not None
    issuer.keys = None
    assert await keys.find("unknown") is None
    assert await keys.find("ec-1") is not None


async def test_before_the_first_keys_nobody_can_tell(issuer: Issuer, session: aiohttp.ClientSession):
    issuer.keys = None
    verify = authenticator(JwksKeys(fetch_from(issuer.url, session)))
    with pytest.raises(KeysUnavailableError):
        await verify.caller(token(READ))


async def test_keys_are_refreshed_in_the_background(issuer: Issuer, session: aiohttp.ClientSession):
    keys = JwksKeys(fetch_from(issuer.url, session), refresh=timedelta(milliseconds=5), pause=timedelta(minutes=1))
    keys.start()
    async with asyncio.timeout(60):
        await issuer.thrice.wait()
    await keys.stop()
    assert await keys.find("ec-1") is not None


async def test_a_key_set_may_be_a_file(tmp_path: Path, session: aiohttp.ClientSession):
    path = tmp_path / "the keys.json"
    path.write_bytes(msgspec.json.encode(KeySet([EC_KEY]).as_dict(private=False)))
    keys = JwksKeys(fetch_from(path.as_uri(), session))
    assert await keys.find("ec-1") is not None


async def test_keys_that_may_not_sign_are_left_out(issuer: Issuer, session: aiohttp.ClientSession):
    encrypting = RSAKey.generate_key(2048, {"kid": "enc-1", "use": "enc"})
    issuer.keys = KeySet([encrypting, OctKey.generate_key(256, {"kid": "oct-1"}), EC_KEY])
    keys = JwksKeys(fetch_from(issuer.url, session), pause=timedelta(minutes=1))
    assert await keys.find("ec-1") is not None
    assert await keys.find("enc-1") is None
    assert await keys.find("oct-1") is None
