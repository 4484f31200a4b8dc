"""Bearer tokens: JWTs that are verified by the keys of their issuer (RFC 7519, RFC 8725, RFC 9068)."""

import hashlib
from collections import OrderedDict
from datetime import timedelta
from typing import Any, Protocol

import msgspec
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet, RSAKey
from joserfc.jwt import JWTClaimsRegistry

from ledger.clock import Clock
from templates.envelope import is_identifier

# Written out, so that neither `none` nor a public key taken for a shared secret can get in (RFC 8725, section 3.1).
ALGORITHMS = ("RS256", "ES256")
LEEWAY = timedelta(seconds=30)
LONGEST = 8192
# A verified token is not verified again for this long: a withdrawn key ends with the next refresh of keys and this.
REMEMBERED = timedelta(minutes=1)
MOST_REMEMBERED = 4096

Key = RSAKey | ECKey


class TokenRefusedError(Exception):
    """The token is not valid. The text says why and repeats nothing of it."""


class KeysUnavailableError(Exception):
    """The issuer's keys have never been had: nobody can be let in yet."""


class Caller(msgspec.Struct, frozen=True):
    """Who calls, and what they may do."""

    subject: str
    scopes: frozenset[str]


class KeySource(Protocol):
    """Where the issuer's public keys come from."""

    async def find(self, kid: str | None) -> Key | None:
        """Return the key of this id; without an id the only key there is. Raises KeysUnavailableError."""
        ...


class StaticKeys:
    """Keys that never change: the sandbox's own."""

    def __init__(self, keys: KeySet) -> None:
        self._keys = by_id(keys)

    async def find(self, kid: str | None) -> Key | None:
        return choose(self._keys, kid)


class Authenticator:
    """Verifies tokens: signature, `iss`, `aud`, `exp` (by the database's time), and that they name somebody."""

    def __init__(self, keys: KeySource, *, issuer: str, audience: str, clock: Clock) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._clock = clock
        self._remembered: OrderedDict[bytes, tuple[float, Caller]] = OrderedDict()

    async def caller(self, token: str) -> Caller:
        """Return who calls. Raises TokenRefusedError or KeysUnavailableError."""
        now = self._clock.now().timestamp()
        digest = hashlib.sha256(token.encode("latin-1", "replace")).digest()
        until, caller = self._remembered.get(digest, (0.0, None))
        if caller is not None and now < until:
            return caller
        caller, expires = await self._verified(token, now=int(now))
        self._remembered[digest] = (min(expires, now + REMEMBERED.total_seconds()), caller)
        if len(self._remembered) > MOST_REMEMBERED:
            self._remembered.popitem(last=False)
        return caller

    async def lifetime(self, token: str) -> int:
        """Return for how many seconds a token is still good. Raises as `caller` does."""
        now = self._clock.now().timestamp()
        _, expires = await self._verified(token, now=int(now))
        return max(0, int(expires - now))

    async def _verified(self, token: str, *, now: int) -> tuple[Caller, float]:
        try:
            claims = await self._claims(token)
            self._registry(now).validate(claims)
        except (JoseError, msgspec.MsgspecError, ValueError, TypeError, RecursionError) as exc:
            raise TokenRefusedError(_reason(exc)) from None
        subject, scope = claims["sub"], claims.get("scope", "")
        if not is_identifier(subject) or not isinstance(scope, str):
            raise TokenRefusedError("sub or scope is not what it must be")
        return Caller(subject, frozenset(scope.split())), claims["exp"]

    async def _claims(self, token: str) -> dict[str, Any]:
        if len(token) > LONGEST:
            raise ValueError("too long")
        signed = jws.extract_compact(token.encode("ascii"))
        kid = signed.headers().get("kid")
        key = await self._keys.find(kid if isinstance(kid, str) else None)
        if key is None:
            raise TokenRefusedError("signed by an unknown key")
        if not jws.validate_compact(signed, key, ALGORITHMS):
            raise TokenRefusedError("the signature does not match")
        claims = msgspec.json.decode(signed.payload or b"")
        if not isinstance(claims, dict):
            raise TokenRefusedError("the claims are no object")
        return claims

    def _registry(self, now: int) -> JWTClaimsRegistry:
        return JWTClaimsRegistry(
            now=now,
            leeway=int(LEEWAY.total_seconds()),
            iss={"essential": True, "value": self._issuer},
            aud={"essential": True, "value": self._audience},
            exp={"essential": True},
            sub={"essential": True},
        )


def by_id(keys: KeySet) -> dict[str | None, Key]:
    """Return the keys that may sign tokens, by their ids."""
    usable = (key for key in keys if isinstance(key, RSAKey | ECKey) and key.get("use") in {None, "sig"})
    return {key.kid: key for key in usable}


def choose(keys: dict[str | None, Key], kid: str | None) -> Key | None:
    """Return the key of an id; without an id the only key there is."""
    if kid is None and len(keys) == 1:
        return next(iter(keys.values()))
    return keys.get(kid)


def _reason(error: Exception) -> str:
    """Name the fault by the library's fixed code: its sentences may repeat a claim."""
    if isinstance(error, JoseError):
        claim = getattr(error, "claim", None)
        return f"{error.error}: {claim}" if claim else error.error
    return "not a token"
