"""Keys: who a person is without saying so, one data key per person, and the key that wraps them all."""

import hmac
import os
import re
import unicodedata
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Mapping
from hashlib import sha256
from hmac import compare_digest
from typing import Any
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from psycopg import AsyncConnection, DataError

from ledger.errors import KeyUnavailableError, UnstorableError

_NONCE = 12
_KEY = 32
_RECEIPT = re.compile(r"[A-Za-z0-9_-]{64}")
# ValueError: what was cut off within its nonce.
_DOES_NOT_OPEN = (InvalidTag, ValueError)


def normalise(address: str) -> str:
    """Return the one form of an address that its hash is made of. Frozen: stored hashes depend on it.

    An e-mail address is lower-cased whole and its domain written in ASCII; of a phone number only `+` and digits stay.
    """
    address = unicodedata.normalize("NFC", address.strip())
    local, at, domain = address.rpartition("@")
    if not at:
        return "".join(sign for sign in address if sign == "+" or (sign.isascii() and sign.isdigit())) or address
    return f"{local.lower()}@{_ascii(domain.lower().rstrip('.'))}"


def _ascii(domain: str) -> str:
    try:
        return domain.encode("idna").decode("ascii")
    except UnicodeError:
        return domain


class Identity:
    """Derives every id and hash that must be the same for ever, from IDENTITY_KEY (32 bytes)."""

    def __init__(self, key: bytes) -> None:
        if len(key) != _KEY:
            raise KeyUnavailableError("IDENTITY_KEY is not 32 bytes long")
        self._key = key

    def address_hash(self, address: str) -> str:
        """Return 32 hex digits that stand for an address."""
        return self._mac("address", normalise(address))[:16].hex()

    def device_hash(self, installation: str) -> str:
        """Return 32 hex digits that stand for a device: its installation id is no address, and is taken as it is."""
        return self._mac("device", installation)[:16].hex()

    def recipient(self, user_id: str | None, address: str | None) -> str:
        """Name a person's data key: by the platform's user id, else by the address."""
        return f"user:{user_id}" if user_id is not None else f"address:{self.address_hash(address or '')}"

    def intake_key(self, *parts: str) -> bytes:
        """Return the 32-byte key of one message, request or command: the same parts always give the same key."""
        return self._mac("intake", *parts)

    def quota(self, *parts: str) -> str:
        """Return 32 hex digits by which a quota counts what belongs together, without saying whose it is."""
        return self._mac("quota", *parts)[:16].hex()

    def standing_stream(self, kind: str, name: str) -> UUID:
        """Return the id of a stream that stands for a thing, not for a moment: a UUIDv8 that starts with f."""
        mac = bytearray(self._mac(kind, name)[:16])
        mac[0] = 0xF0 | (mac[0] & 0x0F)
        mac[6] = 0x80 | (mac[6] & 0x0F)
        mac[8] = 0x80 | (mac[8] & 0x3F)
        return UUID(bytes=bytes(mac))

    def receipt(self, notification: UUID, attempt: UUID) -> str:
        """Return the 64 letters by which whoever got this attempt can say so, and nobody else."""
        return urlsafe_b64encode(notification.bytes + attempt.bytes + self._receipt_mac(notification, attempt)).decode()

    def read_receipt(self, token: str) -> tuple[UUID, UUID] | None:
        """Return the notification and the attempt of a receipt; None when it is none of ours."""
        if not _RECEIPT.fullmatch(token):
            return None
        given = urlsafe_b64decode(token)
        notification, attempt = UUID(bytes=given[:16]), UUID(bytes=given[16:32])
        return (notification, attempt) if compare_digest(given[32:], self._receipt_mac(notification, attempt)) else None

    def signature(self, kind: str, signed: bytes) -> bytes:
        """Return the 16 bytes by which we know again what we have handed out; each kind has signatures of its own."""
        return self._mac(f"signature:{kind}", signed.hex())[:16]

    def _receipt_mac(self, notification: UUID, attempt: UUID) -> bytes:
        return self._mac("receipt", notification.hex, attempt.hex)[:16]

    def _mac(self, *parts: str) -> bytes:
        # Each part is preceded by its length, so that no two lists of parts read the same.
        message = b"".join(len(part).to_bytes(4) + part for part in (p.encode("utf-8", "surrogatepass") for p in parts))
        return hmac.digest(self._key, message, sha256)


def user_of(recipient: str) -> str | None:
    """Return the platform's user id in the name of a data key; None where it names an address."""
    kind, _, name = recipient.partition(":")
    return name if kind == "user" else None


def make_identity_key() -> bytes:
    """Draw a new identity key."""
    return os.urandom(_KEY)


class KeyEncryption:
    """Wraps data keys under KEY_ENCRYPTION_KEY: the first of the given keys wraps, all of them unwrap (rotation)."""

    def __init__(self, keys: Iterable[bytes]) -> None:
        given = list(keys)
        if not given:
            raise KeyUnavailableError("no KEY_ENCRYPTION_KEY was given")
        if any(len(key) != _KEY for key in given):
            raise KeyUnavailableError("a KEY_ENCRYPTION_KEY is not 32 bytes long")
        self._ciphers = [(sha256(key).digest()[:4], AESGCM(key)) for key in given]

    def wrap(self, name: str, key: bytes) -> bytes:
        """Wrap a key so that it opens for this name alone."""
        key_id, cipher = self._ciphers[0]
        nonce = os.urandom(_NONCE)
        return key_id + nonce + cipher.encrypt(nonce, key, name.encode())

    def unwrap(self, name: str, wrapped: bytes) -> bytes:
        """Open a wrapped key; KeyUnavailableError when none of the given keys fits."""
        for key_id, cipher in self._ciphers:
            if wrapped[:4] == key_id:
                try:
                    return cipher.decrypt(wrapped[4 : 4 + _NONCE], wrapped[4 + _NONCE :], name.encode())
                except _DOES_NOT_OPEN:
                    break
        raise KeyUnavailableError("a stored key opens with none of the given KEY_ENCRYPTION_KEYs")

    def wrap_identity(self, key: bytes) -> bytes:
        """Wrap the installation's identity key."""
        return self.wrap("identity", key)

    def unwrap_identity(self, wrapped: bytes) -> bytes:
        """Open the installation's identity key."""
        return self.unwrap("identity", wrapped)


class DataKey:
    """Seals and opens what belongs to one person, or to one week."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, plain: bytes, *, bound_to: bytes) -> bytes:
        """Encrypt; the result opens only beside what it is bound to."""
        nonce = os.urandom(_NONCE)
        return nonce + self._cipher.encrypt(nonce, plain, bound_to)

    def open(self, sealed: bytes, *, bound_to: bytes) -> bytes:
        """Decrypt; KeyUnavailableError when the key or what it is bound to is another."""
        try:
            return self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], bound_to)
        except _DOES_NOT_OPEN as exc:
            raise KeyUnavailableError("a sealed field does not open with its key") from exc


Keyring = Mapping[str, DataKey]

# Existing keys and new ones in one round trip; a key that another process made meanwhile is in neither part. The new
# ones come last: where a key is made because the one before is being destroyed, both are seen, and the later one holds.
# The commit waits for the disk: an append that is repeated after a crash of the database stores what was sealed before
# it, and with a key lost in that crash nobody could read it again.
_MAKE = """
WITH made AS (
    INSERT INTO ledger.recipient_key (recipient, wrapped)
    SELECT * FROM unnest(%(recipients)b::text[], %(wrapped)b::bytea[])
    ON CONFLICT DO NOTHING RETURNING recipient, wrapped
), addressed AS (
    INSERT INTO ledger.recipient_address (recipient, address_hash)
    SELECT * FROM unnest(%(addressed)b::text[], %(hashes)b::text[]) ON CONFLICT DO NOTHING
)
SELECT recipient, wrapped FROM ledger.recipient_key WHERE recipient = ANY(%(recipients)b::text[])
UNION ALL
SELECT recipient, wrapped FROM made
"""
_READ = "SELECT recipient, wrapped FROM ledger.recipient_key WHERE recipient = ANY(%(recipients)b::text[])"
_MAKE_WEEK = "INSERT INTO ledger.week_key (week, wrapped) VALUES (%(week)s, %(wrapped)s) ON CONFLICT DO NOTHING"
_READ_WEEK = "SELECT wrapped FROM ledger.week_key WHERE week = %(week)s"


class Keys:
    """Reads and makes data keys. Nothing is cached: a destroyed key is gone with the next batch."""

    def __init__(self, encryption: KeyEncryption) -> None:
        self._encryption = encryption

    def use_encryption(self, encryption: KeyEncryption) -> None:
        """Wrap and unwrap by these from now on: KEY_ENCRYPTION_KEY has changed."""
        self._encryption = encryption

    async def read(self, connection: AsyncConnection[Any], recipients: Iterable[str]) -> dict[str, DataKey]:
        """Return the keys of those recipients that have one."""
        wanted = sorted(set(recipients))
        if not wanted:
            return {}
        rows = await (await connection.execute(_READ, {"recipients": wanted}, binary=True)).fetchall()
        return {recipient: self._open(recipient, wrapped) for recipient, wrapped in rows}

    async def ensure(
        self, connection: AsyncConnection[Any], recipients: Iterable[str], addresses: Iterable[tuple[str, str]] = ()
    ) -> dict[str, DataKey]:
        """Return a key for each recipient, made where there was none, and keep in mind which addresses they have.

        `addresses` are (recipient, address hash). Raises UnstorableError for a name that is no text.
        """
        wanted, known = sorted(set(recipients)), sorted(set(addresses))
        if not wanted:
            return {}
        try:
            fresh = [self._encryption.wrap(recipient, os.urandom(_KEY)) for recipient in wanted]
            given = {
                "recipients": wanted,
                "wrapped": fresh,
                "addressed": [recipient for recipient, _ in known],
                "hashes": [address_hash for _, address_hash in known],
            }
            rows = await (await connection.execute(_MAKE, given, binary=True)).fetchall()
        except (DataError, UnicodeEncodeError) as exc:
            raise UnstorableError("the name of a recipient cannot be stored") from exc
        keys = {recipient: self._open(recipient, wrapped) for recipient, wrapped in rows}
        missing = [recipient for recipient in wanted if recipient not in keys]
        return keys | await self.read(connection, missing)

    async def of_week(self, connection: AsyncConnection[Any], week: Any) -> DataKey:
        """Return the key of a week (the date of its Monday), made where there was none."""
        name = f"week:{week.isoformat()}"
        wrapped = self._encryption.wrap(name, os.urandom(_KEY))
        await connection.execute(_MAKE_WEEK, {"week": week, "wrapped": wrapped})
        row = await (await connection.execute(_READ_WEEK, {"week": week}, binary=True)).fetchone()
        if row is None:
            raise KeyUnavailableError("the key of a week was destroyed while it was made")
        return DataKey(self._encryption.unwrap(name, row[0]))

    def _open(self, recipient: str, wrapped: bytes) -> DataKey:
        return DataKey(self._encryption.unwrap(recipient, wrapped))
