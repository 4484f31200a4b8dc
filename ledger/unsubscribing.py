"""The link by which whoever got a mail ends all of its category: signed, so that it needs no login and no lookup."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hmac import compare_digest
from uuid import UUID

import msgspec

from ledger.keys import Identity
from ledger.values import Category, Channel

PATH = "/unsubscribe/"
# What nobody must be able to do without: a link in a mail reaches whoever it is forwarded to.
UNSUBSCRIBABLE = frozenset({Category.MARKETING})

# The numbers that stand in links. They are storage: a link lies in somebody's mailbox for years.
_CHANNELS = (Channel.EMAIL, Channel.SMS, Channel.PUSH)
_CATEGORIES = (Category.SECURITY, Category.TRANSACTIONAL, Category.OPERATIONAL, Category.MARKETING)
_TOKEN = re.compile(r"[A-Za-z0-9_-]{88}")


class Unsubscribing(msgspec.Struct, frozen=True, kw_only=True):
    """That a category is to go no more to an address by this channel; the attempt whose mail had the link is evidence.

    It names all that the fact will say: the link works when the notification itself has long left the database.
    """

    notification: UUID
    attempt: UUID
    channel: Channel
    address_hash: str
    category: Category

    def token(self, identity: Identity) -> str:
        """Return the 88 letters of the link: ids and the keyed hash of the address, nothing of a person."""
        said = self._bytes()
        return urlsafe_b64encode(said + identity.signature("unsubscribe", said)).decode()

    def _bytes(self) -> bytes:
        places = bytes([_CHANNELS.index(self.channel), _CATEGORIES.index(self.category)])
        return self.notification.bytes + self.attempt.bytes + bytes.fromhex(self.address_hash) + places


def read(identity: Identity, token: str) -> Unsubscribing | None:
    """Return what a link says; None when it is none of ours."""
    if not _TOKEN.fullmatch(token):
        return None
    given = urlsafe_b64decode(token)
    said, signature = given[:50], given[50:]
    if not compare_digest(signature, identity.signature("unsubscribe", said)):
        return None
    return Unsubscribing(
        notification=UUID(bytes=said[:16]),
        attempt=UUID(bytes=said[16:32]),
        channel=_CHANNELS[said[48]],
        address_hash=said[32:48].hex(),
        category=_CATEGORIES[said[49]],
    )


class Links:
    """Makes the links: `public_url` is where people reach our API."""

    def __init__(self, identity: Identity, public_url: str) -> None:
        self._identity = identity
        self._begin = f"{public_url.rstrip('/')}{PATH}"

    def of(self, unsubscribing: Unsubscribing) -> str | None:
        """Return the URL; None where nobody may unsubscribe from such a thing by a link."""
        if unsubscribing.channel is not Channel.EMAIL or unsubscribing.category not in UNSUBSCRIBABLE:
            return None
        return f"{self._begin}{unsubscribing.token(self._identity)}"
