"""A topic that behaves like Amazon SNS: confirms its subscription, signs, posts, and posts again."""

import asyncio
import base64
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Self
from urllib.parse import urlencode
from uuid import uuid4

import aiohttp
import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

FIRST_PAUSE = timedelta(milliseconds=100)
LONGEST_PAUSE = timedelta(seconds=5)
POST_TIMEOUT = timedelta(seconds=15)
SENDERS = 8
NOTIFICATION_FIELDS = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
CONFIRMATION_FIELDS = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")


class Seal:
    """A signing key of our own, with its certificate and the path that it is served at."""

    def __init__(self) -> None:
        self._key = generate_private_key(public_exponent=65537, key_size=2048)
        self.certificate = certificate_of(self._key)
        self.path = f"/SimpleNotificationService-{secrets.token_hex(16)}.pem"

    def signature(self, text: bytes, *, version: str) -> str:
        """Return the signature of a canonical text in Base64; version "1" signs with SHA-1, "2" with SHA-256."""
        algorithm = SHA1() if version == "1" else SHA256()  # noqa: S303 - version 1 of SNS is SHA-1
        return base64.b64encode(self._key.sign(text, PKCS1v15(), algorithm)).decode()


class Topic:
    """One topic with at most one subscriber; `origin` is where our server shows the certificate and confirms."""

    def __init__(self, arn: str, *, origin: str, seal: Seal, version: str = "2") -> None:
        self.arn = arn
        self.delivered = 0
        self.refused = 0
        self._origin = origin
        self._seal = seal
        self._version = version
        self._token = secrets.token_hex(32)
        self._confirmed = asyncio.Event()
        self._queue: asyncio.Queue[tuple[bytes, Callable[[], None] | None]] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._session: aiohttp.ClientSession | None = None

    async def subscribe(self, url: str) -> Self:
        """Begin to deliver to `url`: first a SubscriptionConfirmation, then, once it is confirmed, everything else."""
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=POST_TIMEOUT.total_seconds()))
        self._tasks = [asyncio.create_task(self._confirm(self._session, url))]
        self._tasks += [asyncio.create_task(self._deliver(self._session, url)) for _ in range(SENDERS)]
        return self

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def confirm(self, token: str) -> bool:
        """Take the visit to the SubscribeURL; False when the token is not ours."""
        if secrets.compare_digest(token.encode(), self._token.encode()):
            self._confirmed.set()
        return self._confirmed.is_set()

    def publish(self, message: bytes, *, then: Callable[[], None] | None = None) -> None:
        """Queue a message; `then` is called when the subscriber has taken or refused it."""
        if self._session is not None:
            self._queue.put_nowait((message, then))

    async def drained(self) -> None:
        """Wait until everything published so far was taken or refused."""
        await self._queue.join()

    def notification(self, message: str, *, subject: str | None = "Amazon SES Email Event Notification") -> bytes:
        """Return a signed notification, as it is posted."""
        fields = self._fields("Notification", message) | ({} if subject is None else {"Subject": subject})
        return self._signed(fields, NOTIFICATION_FIELDS)

    def confirmation(self, kind: str = "SubscriptionConfirmation") -> bytes:
        """Return a signed SubscriptionConfirmation or UnsubscribeConfirmation, as it is posted."""
        query = urlencode({"Action": "ConfirmSubscription", "TopicArn": self.arn, "Token": self._token})
        fields = self._fields(kind, f"You have chosen to subscribe to the topic {self.arn}.") | {
            "Token": self._token,
            "SubscribeURL": f"{self._origin}/?{query}",
        }
        return self._signed(fields, CONFIRMATION_FIELDS)

    def _fields(self, kind: str, message: str) -> dict[str, str]:
        timestamp = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {
            "Type": kind,
            "MessageId": str(uuid4()),
            "TopicArn": self.arn,
            "Message": message,
            "Timestamp": timestamp,
        }

    def _signed(self, fields: dict[str, str], names: tuple[str, ...]) -> bytes:
        text = "".join(f"{name}\n{fields[name]}\n" for name in names if name in fields).encode()
        return msgspec.json.encode(
            fields
            | {
                "SignatureVersion": self._version,
                "Signature": self._seal.signature(text, version=self._version),
                "SigningCertURL": f"{self._origin}{self._seal.path}",
            }
        )

    async def _confirm(self, session: aiohttp.ClientSession, url: str) -> None:
        pause = FIRST_PAUSE
        while not self._confirmed.is_set():
            await self._post(session, url, self.confirmation())
            if not self._confirmed.is_set():
                await asyncio.sleep(pause.total_seconds())
                pause = min(pause * 2, LONGEST_PAUSE)

    async def _deliver(self, session: aiohttp.ClientSession, url: str) -> None:
        await self._confirmed.wait()
        while True:
            message, then = await self._queue.get()
            body = self.notification(message.decode())
            pause = FIRST_PAUSE
            while (status := await self._post(session, url, body)) is None:
                await asyncio.sleep(pause.total_seconds())
                pause = min(pause * 2, LONGEST_PAUSE)
            self.delivered += status
            self.refused += not status
            if then is not None:
                then()
            self._queue.task_done()

    async def _post(self, session: aiohttp.ClientSession, url: str, body: bytes) -> bool | None:
        """Return whether it was taken; None = come again. SNS gives up on a 4xx other than 429."""
        headers = {"Content-Type": "text/plain; charset=UTF-8", "x-amz-sns-topic-arn": self.arn}
        try:
            async with session.post(url, data=body, headers=headers, allow_redirects=False) as reply:
                if 400 <= reply.status < 500 and reply.status != 429:
                    return False
                return True if reply.status < 300 else None
        except (aiohttp.ClientError, TimeoutError):
            return None


def certificate_of(key: RSAPrivateKey) -> bytes:
    """Return a self-signed certificate of the key as PEM."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.sandbox.example")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=3650))
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM)
