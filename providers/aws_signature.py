"""Signature Version 4: how AWS knows whose request it is.

Source: "Create a signed AWS API request" in the AWS IAM User Guide.
"""

import hashlib
import hmac
from datetime import datetime
from functools import lru_cache
from typing import Protocol
from urllib.parse import quote, urlsplit

_ALGORITHM = "AWS4-HMAC-SHA256"


class SigningKeys(Protocol):
    """Whose request it is; those of a role have a token."""

    @property
    def access_key(self) -> str: ...
    @property
    def secret_key(self) -> str: ...
    @property
    def token(self) -> str | None: ...


class Signer:
    """Signs what is posted as JSON to one URL of a service."""

    def __init__(self, url: str, *, region: str, service: str) -> None:
        parts = urlsplit(url)
        self.url = url
        self._host = parts.netloc.rpartition("@")[2]
        self._path = quote(parts.path, safe="/~")
        self._region = region
        self._service = service

    def headers(self, body: bytes, keys: SigningKeys, at: datetime) -> dict[str, str]:
        """Return the headers that a request with this body must have; `at` is now, in UTC."""
        moment = f"{at:%Y%m%dT%H%M%SZ}"
        # In the order in which they are signed.
        headers = {"Content-Type": "application/json", "Host": self._host, "X-Amz-Date": moment}
        if keys.token:
            headers["X-Amz-Security-Token"] = keys.token
        names = ";".join(headers).lower()
        lines = "".join(f"{name.lower()}:{value}\n" for name, value in headers.items())
        request = f"POST\n{self._path}\n\n{lines}\n{names}\n{hashlib.sha256(body).hexdigest()}"
        scope = f"{moment[:8]}/{self._region}/{self._service}/aws4_request"
        said = f"{_ALGORITHM}\n{moment}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        signature = _mac(_key_of(keys.secret_key, scope), said).hex()
        credential = f"{keys.access_key}/{scope}"
        headers["Authorization"] = f"{_ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signature}"
        return headers


@lru_cache(maxsize=4)
def _key_of(secret: str, scope: str) -> bytes:
    """Derive the key of a day, a region and a service."""
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = _mac(key, part)
    return key


def _mac(key: bytes, said: str) -> bytes:
    return hmac.digest(key, said.encode(), "sha256")
