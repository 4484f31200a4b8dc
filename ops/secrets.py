"""The sandbox's secrets: drawn at its first start, kept in a file that only its owner reads."""

import base64
import os
from pathlib import Path

import msgspec
from joserfc import jwk, jwt

ISSUER = "https://sandbox.example"
AUDIENCE = "notification-ledger"
SCOPES = (
    "notifications:write",
    "notifications:read",
    "notifications:act",
    "pii:read",
    "recipients:write",
    "templates:write",
    "operations",
)


class Secrets(msgspec.Struct, frozen=True):
    """What a sandbox keeps: the key that wraps its data keys (base64), and the key that signs its tokens (a JWK)."""

    key_encryption_key: str
    signing_key: dict[str, str | list[str]]

    def public_keys(self) -> dict[str, list[dict[str, object]]]:
        """Return the key set that the HTTP API verifies with."""
        key = jwk.ECKey.import_key(self.signing_key)
        return {"keys": [dict(key.as_dict(private=False))]}

    def token(self, *, subject: str, now: float, scopes: tuple[str, ...] = SCOPES) -> str:
        """Mint a token for ten years: a sandbox guards nothing."""
        key = jwk.ECKey.import_key(self.signing_key)
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": subject,
            "scope": " ".join(scopes),
            "iat": int(now),
            "exp": int(now) + 10 * 365 * 86_400,
        }
        return jwt.encode({"alg": "ES256", "kid": str(self.signing_key["kid"])}, claims, key)


def secrets_in(folder: Path) -> Secrets:
    """Read a sandbox's secrets; drawn where there are none yet."""
    path = folder / "secrets.json"
    if path.exists():
        return msgspec.json.decode(path.read_bytes(), type=Secrets)
    key = jwk.ECKey.generate_key("P-256", auto_kid=True)
    drawn = Secrets(
        base64.b64encode(os.urandom(32)).decode(), {k: str(v) for k, v in key.as_dict(private=True).items()}
    )
    folder.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(msgspec.json.encode(drawn))
    return drawn
