"""Where a relay is and how it is spoken to: the setting SMTP_URL, read."""

from enum import StrEnum
from typing import Self
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import msgspec


class RelayUrlError(ValueError):
    """The URL is none of a relay. The text names the fault, and never a part of the URL: it holds a password."""


class Security(StrEnum):
    """When the connection becomes a TLS one."""

    TLS = "tls"
    STARTTLS = "starttls"
    NONE = "none"


PORTS = {Security.TLS: 465, Security.STARTTLS: 587, Security.NONE: 25}


class Relay(msgspec.Struct, frozen=True, kw_only=True):
    """A server that takes mail from us. Without a user nobody logs in."""

    host: str
    port: int
    security: Security
    user: str = ""
    password: str = ""

    def __repr__(self) -> str:
        return f"Relay({self.host!r}, {self.port}, {self.security.value!r})"

    @classmethod
    def of(cls, url: str) -> Self:
        """Read smtp://user:password@host:587 (STARTTLS, unless ?starttls=off) or smtps://user:password@host:465.

        Raises RelayUrlError.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise RelayUrlError("has a host or a port that is none") from None
        security = security_of(parts)
        if not parts.hostname or parts.path not in {"", "/"} or parts.fragment:
            raise RelayUrlError("must name a host, and no path")
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        if bool(user) != bool(password):
            raise RelayUrlError("must give user and password, or neither")
        if user and security is Security.NONE:
            raise RelayUrlError("must not give a password where starttls=off: it would travel in clear")
        return cls(host=parts.hostname, port=port or PORTS[security], security=security, user=user, password=password)


def security_of(parts: SplitResult) -> Security:
    """Return what scheme and query say; raises RelayUrlError."""
    if parts.scheme not in {"smtp", "smtps"}:
        raise RelayUrlError("must be an smtp:// or smtps:// URL")
    query = parse_qs(parts.query, keep_blank_values=True)
    if parts.scheme == "smtp" and query == {"starttls": ["off"]}:
        return Security.NONE
    if query:
        raise RelayUrlError("may have ?starttls=off behind smtp://, and nothing else")
    return Security.TLS if parts.scheme == "smtps" else Security.STARTTLS
