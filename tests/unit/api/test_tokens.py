import base64
import hmac
import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from joserfc.jwk import ECKey

from api.tokens import MOST_REMEMBERED, Authenticator, StaticKeys, TokenRefusedError
from ledger.clock import Clock
from tests.integration.api.tokens import AUDIENCE, EC_KEY, ISSUER, KEYS, RSA_KEY, claims, signed, token

READ = "notifications:read"


@pytest.fixture
def authenticator() -> Authenticator:
    clock = Clock()
    clock.set(datetime.now(UTC))
    return Authenticator(StaticKeys(KEYS), issuer=ISSUER, audience=AUDIENCE, clock=clock)


@pytest.mark.parametrize(("key", "alg", "kid"), [(EC_KEY, "ES256", "ec-1"), (RSA_KEY, "RS256", "rsa-1")])
async def test_a_token_names_its_caller_and_what_they_may_do(
    authenticator: Authenticator, key: Any, alg: str, kid: str
):
    caller = await authenticator.caller(signed(claims("a b  c"), key, alg=alg, kid=kid))
    assert caller.subject == "support"
    assert caller.scopes == {"a", "b", "c"}


async def test_a_token_without_scope_may_do_nothing(authenticator: Authenticator):
    bare = {name: value for name, value in claims("").items() if name != "scope"}
    assert (await authenticator.caller(signed(bare))).scopes == frozenset()


async def test_one_audience_of_several_is_enough(authenticator: Authenticator):
    caller = await authenticator.caller(signed(claims(READ, aud=["billing", AUDIENCE])))
    assert caller.subject == "support"


def part(value: dict[str, Any] | bytes) -> str:
    plain = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(plain).decode().rstrip("=")


def unsigned(body: dict[str, Any]) -> str:
    return f"{part({'alg': 'none'})}.{part(body)}."


def signed_by_the_public_key(body: dict[str, Any]) -> str:
    """The attack on libraries that let the token choose its algorithm (RFC 8725, section 2.1)."""
    text = f"{part({'alg': 'HS256', 'kid': 'rsa-1'})}.{part(body)}"
    return f"{text}.{part(hmac.digest(RSA_KEY.as_pem(private=False), text.encode(), 'sha256'))}"


BAD = {
    "no token at all": "not.a.token",
    "not even three parts": "x",
    "no signature": unsigned(claims(READ)),
    "another key of the same name": signed(claims(READ), ECKey.generate_key("P-256")),
    "an unknown key": signed(claims(READ), ECKey.generate_key("P-256"), kid="ec-2"),
    "no key named, where there are two": signed(claims(READ), kid=None),
    "an algorithm that is not allowed": signed(claims(READ), RSA_KEY, alg="PS256", kid="rsa-1"),
    "the key of another algorithm": signed(claims(READ), EC_KEY, kid="rsa-1"),
    "the public key as a shared secret": signed_by_the_public_key(claims(READ)),
    "expired": signed(claims(READ, exp=int(time.time()) - 60)),
    "not valid yet": signed(claims(READ, nbf=int(time.time()) + 600)),
    "another issuer": signed(claims(READ, iss="https://login.example/")),
    "another audience": signed(claims(READ, aud="billing")),
    "no issuer": signed({k: v for k, v in claims(READ).items() if k != "iss"}),
    "no audience": signed({k: v for k, v in claims(READ).items() if k != "aud"}),
    "no expiry": signed({k: v for k, v in claims(READ).items() if k != "exp"}),
    "no subject": signed({k: v for k, v in claims(READ).items() if k != "sub"}),
    "an expiry that is no time": signed(claims(READ, exp="tomorrow")),
    "a subject that cannot be shown": signed(claims(READ, sub="a\0b")),
    "a scope that is a list": signed(claims([READ])),
    "longer than any token": signed(claims(READ, why="x" * 10_000)),
}


@pytest.mark.parametrize("bearer", BAD.values(), ids=BAD)
async def test_a_token_that_is_not_in_order_is_refused(authenticator: Authenticator, bearer: str):
    for _ in range(2):
        with pytest.raises(TokenRefusedError) as caught:
            await authenticator.caller(bearer)
        assert READ not in str(caught.value)


async def test_many_tokens_do_not_fill_the_memory(authenticator: Authenticator, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("api.tokens.MOST_REMEMBERED", 10)
    for number in range(20):
        await authenticator.caller(token(READ, subject=str(number)))
    assert len(authenticator._remembered) == 10 < MOST_REMEMBERED
