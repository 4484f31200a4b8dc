"""The ways between the processes: a URL led through a proxy that a test can break."""

from urllib.parse import urlsplit, urlunsplit

from tests.support.proxy import Proxy


def through(proxy: Proxy, url: str) -> str:
    """The same URL by way of the proxy."""
    parts = urlsplit(url)
    user = parts.netloc.rpartition("@")[0]
    return urlunsplit(parts._replace(netloc=f"{user}@127.0.0.1:{proxy.port}" if user else f"127.0.0.1:{proxy.port}"))
