"""A token endpoint that behaves like Google's: takes a service account's signed assertion, hands out access tokens."""

import secrets
from datetime import timedelta

import msgspec
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

PATH = "/token"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
LIFETIME = timedelta(hours=1)


class Account:
    """A service account with a key of its own, made at the start. `tokens` counts how many it has been given."""

    def __init__(self, project: str) -> None:
        self.project = project
        self.email = f"sender@{project}.iam.gserviceaccount.com"
        self.lifetime = LIFETIME
        self.tokens = 0
        self._key = generate_private_key(public_exponent=65537, key_size=2048)
        self._public = RSAKey.import_key(self._key.public_key())
        self._good: set[str] = set()

    def credentials(self, origin: str) -> str:
        """Return the JSON key of the account, as Google's console gives it."""
        private = self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        return msgspec.json.encode(
            {
                "type": "service_account",
                "project_id": self.project,
                "private_key_id": "sandbox",
                "private_key": private,
                "client_email": self.email,
                "token_uri": f"{origin}{PATH}",
            }
        ).decode()

    def revoke(self) -> None:
        """Take back every token that was given."""
        self._good.clear()

    def admits(self, authorization: str) -> bool:
        """Whether this header carries a token of ours."""
        kind, _, token = authorization.partition(" ")
        return kind == "Bearer" and token in self._good

    async def grant(self, http: web.Request) -> web.Response:
        """Answer a request for a token (RFC 7523, 2.1; errors as in RFC 6749, 5.2)."""
        form = await http.post()
        if form.get("grant_type") != GRANT:
            return _refused("unsupported_grant_type")
        try:
            given = jwt.decode(str(form.get("assertion", "")), self._public, algorithms=["RS256"])
            jwt.JWTClaimsRegistry(
                iss={"essential": True, "value": self.email}, exp={"essential": True}, scope={"essential": True}
            ).validate(given.claims)
        except (JoseError, ValueError):
            return _refused("invalid_grant")
        if SCOPE not in str(given.claims["scope"]).split():
            return _refused("invalid_scope")
        token = secrets.token_urlsafe(32)
        self._good.add(token)
        self.tokens += 1
        seconds = int(self.lifetime.total_seconds())
        return web.json_response({"access_token": token, "expires_in": seconds, "token_type": "Bearer"})


def _refused(error: str) -> web.Response:
    return web.json_response({"error": error, "error_description": error}, status=400)
