"""Tokens as an issuer of ours would sign them."""

import time
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, Key, KeySet, RSAKey

ISSUER = "https://login.shop.example/"
AUDIENCE = "notification-ledger"
EC_KEY = ECKey.generate_key("P-256", {"kid": "ec-1", "use": "sig"})
RSA_KEY = RSAKey.generate_key(2048, {"kid": "rsa-1", "use": "sig"})
KEYS = KeySet([EC_KEY, RSA_KEY])


def claims(scope: Any, **others: Any) -> dict[str, Any]:
    now = int(time.time())
    return {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "support",
        "iat": now,
        "exp": now + 600,
        "scope": scope,
        **others,
    }


def signed(body: dict[str, Any], key: Key = EC_KEY, *, alg: str = "ES256", kid: str | None = "ec-1") -> str:
    header = {"alg": alg} | ({} if kid is None else {"kid": kid})
    return jwt.encode(header, body, key, algorithms=[alg])


def token(scope: str, *, subject: str = "support") -> str:
    return signed(claims(scope, sub=subject))
