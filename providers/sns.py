"""Amazon SNS: verifies what a topic posts to us, and confirms its subscription."""

import asyncio
import base64
import binascii
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection
from datetime import timedelta
from typing import Any, Self
from urllib.parse import urlencode

import aiohttp
import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, HashAlgorithm

from providers.contract import CallbackRefusedError, CallbackUnavailableError

# Gets a URL without following redirects and returns the body of a 200; anything else raises.
Fetch = Callable[[str], Awaitable[bytes]]

# SNS carries at most 256 KiB; JSON may make it longer by its escapes.
LARGEST_BODY = 1024 * 1024
LARGEST_CERTIFICATE = 64 * 1024
FETCH_DEADLINE = timedelta(seconds=5)
MOST_FETCHES = 8
MOST_KEYS = 16

TOPIC = re.compile(
    r"arn:(aws|aws-cn|aws-us-gov):sns:([a-z]{2}(?:-[a-z]+)+-\d):\d{12}:[A-Za-z0-9_-]{1,256}(?:\.fifo)?", re.ASCII
)
CERTIFICATE_PATH = re.compile(r"/SimpleNotificationService-[0-9a-f]{32}\.pem")
TOKEN = re.compile(r"[0-9A-Za-z]{1,1024}")

# What is signed, in this order: the SNS developer guide, "Verifying the signatures of Amazon SNS messages".
NOTIFICATION = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
CONFIRMATION = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
SIGNED = {
    "Notification": NOTIFICATION,
    "SubscriptionConfirmation": CONFIRMATION,
    "UnsubscribeConfirmation": CONFIRMATION,
}
ALWAYS = ("Type", "MessageId", "TopicArn", "Message", "Timestamp", "Signature", "SignatureVersion", "SigningCertURL")
HASHES: dict[str, HashAlgorithm] = {"1": SHA1(), "2": SHA256()}  # noqa: S303 - version 1 of SNS is SHA-1


class Envelope(msgspec.Struct, frozen=True, rename="pascal"):
    """What SNS posts, whatever its type; times stay the text that was signed."""

    type: str
    message_id: str
    topic_arn: str
    message: str
    timestamp: str
    signature: str
    signature_version: str
    certificate: str = msgspec.field(name="SigningCertURL")
    subject: str | None = None
    token: str | None = None
    subscribe_url: str | None = msgspec.field(default=None, name="SubscribeURL")

    def canonical(self) -> bytes:
        """Return the text that the signature is over."""
        values = {
            "Message": self.message,
            "MessageId": self.message_id,
            "Subject": self.subject,
            "SubscribeURL": self.subscribe_url,
            "Timestamp": self.timestamp,
            "Token": self.token,
            "TopicArn": self.topic_arn,
            "Type": self.type,
        }
        lines = ((name, values[name]) for name in SIGNED[self.type])
        return "".join(f"{name}\n{value}\n" for name, value in lines if value is not None).encode()


DECODER = msgspec.json.Decoder(Envelope)


class Verifier:
    """Knows the topics that may speak to us, and the keys that sign for them.

    `origin` is the exact start of the URLs that certificates are served from and subscriptions confirmed at, for a
    topic that is not Amazon's; None = the SNS host of each topic's own region.
    """

    def __init__(self, *, topics: Collection[str], fetch: Fetch, origin: str | None = None) -> None:
        self._origins = {topic: origin or origin_of(topic) for topic in topics}
        self._fetch = fetch
        self._keys: OrderedDict[str, RSAPublicKey] = OrderedDict()
        self._fetching: dict[str, asyncio.Task[RSAPublicKey]] = {}

    async def verify(self, body: bytes) -> Envelope:
        """Return the envelope when an allowed topic signed it.

        There is no check of its age: reports are idempotent, and an old one that is refused is lost.
        Raises CallbackRefusedError, or CallbackUnavailableError when the certificate cannot be had just now.
        """
        envelope = read(body)
        origin = self._origins.get(envelope.topic_arn)
        if origin is None:
            raise CallbackRefusedError("TopicArn is not an allowed topic")
        prefix, path = envelope.certificate[: len(origin)], envelope.certificate[len(origin) :]
        if prefix != origin or not CERTIFICATE_PATH.fullmatch(path):
            raise CallbackRefusedError("SigningCertURL is not that of the topic's region")
        key = await self._key(envelope.certificate)
        check(envelope, key)
        return envelope

    async def confirm(self, envelope: Envelope) -> None:
        """Confirm the subscription of a verified envelope. The URL is made here: none that was posted is visited."""
        if envelope.token is None or not TOKEN.fullmatch(envelope.token):
            raise CallbackRefusedError("Token is not a token")
        query = {"Action": "ConfirmSubscription", "TopicArn": envelope.topic_arn, "Token": envelope.token}
        try:
            await self._fetch(f"{self._origins[envelope.topic_arn]}/?{urlencode(query)}")
        except Exception as error:
            raise CallbackUnavailableError("the subscription cannot be confirmed") from error

    async def _key(self, url: str) -> RSAPublicKey:
        if key := self._keys.get(url):
            self._keys.move_to_end(url)
            return key
        task = self._fetching.get(url)
        if task is None:
            if len(self._fetching) >= MOST_FETCHES:
                raise CallbackUnavailableError("too many certificates are being fetched")
            task = self._fetching[url] = asyncio.create_task(self._fetch_key(url))
            task.add_done_callback(lambda done: self._fetched(url, done))
        return await asyncio.shield(task)

    async def _fetch_key(self, url: str) -> RSAPublicKey:
        try:
            return key_of(await self._fetch(url))
        except Exception as error:
            raise CallbackUnavailableError("the signing certificate cannot be fetched") from error

    def _fetched(self, url: str, task: asyncio.Task[RSAPublicKey]) -> None:
        del self._fetching[url]
        if not task.cancelled() and task.exception() is None:
            self._keys[url] = task.result()
            if len(self._keys) > MOST_KEYS:
                self._keys.popitem(last=False)


class Fetcher:
    """Gets small things over HTTPS: no redirects, one deadline, a bounded body."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    @classmethod
    async def open(cls, *, deadline: timedelta = FETCH_DEADLINE) -> Self:
        timeout = aiohttp.ClientTimeout(total=deadline.total_seconds())
        return cls(aiohttp.ClientSession(timeout=timeout, trust_env=True, cookie_jar=aiohttp.DummyCookieJar()))

    async def __call__(self, url: str) -> bytes:
        """Return the body of a 200; raises aiohttp.ClientError, TimeoutError or ValueError."""
        async with self._session.get(url, allow_redirects=False) as reply:
            if reply.status != 200:
                raise ValueError(f"answered {reply.status}")
            body = await reply.content.read(LARGEST_CERTIFICATE)
            while not reply.content.at_eof() and len(body) < LARGEST_CERTIFICATE:
                body += await reply.content.read(LARGEST_CERTIFICATE)
            return body

    async def aclose(self) -> None:
        await self._session.close()


def origin_of(topic: str) -> str:
    """Return the start of the URLs of a topic's own region; raises ValueError for what is no topic's ARN."""
    parts = TOPIC.fullmatch(topic)
    if parts is None:
        raise ValueError("not the ARN of an SNS topic")
    partition, region = parts.groups()
    return f"https://sns.{region}.amazonaws.com" + (".cn" if partition == "aws-cn" else "")


def key_of(pem: bytes) -> RSAPublicKey:
    """Return the public key of a certificate; raises ValueError.

    Its dates are not looked at: trust comes from the host that served it, and SNS posts for weeks what we could not
    take, so that a certificate may have run out meanwhile.
    """
    try:
        key = x509.load_pem_x509_certificate(pem).public_key()
    except UnsupportedAlgorithm as error:
        raise ValueError("not an RSA certificate") from error
    if not isinstance(key, RSAPublicKey):
        raise ValueError("not an RSA certificate")  # noqa: TRY004 - the certificate is wrong, not the caller
    return key


def check(envelope: Envelope, key: RSAPublicKey) -> None:
    """Raise CallbackRefusedError unless the key signed the envelope."""
    try:
        signature = base64.b64decode(envelope.signature, validate=True)
        key.verify(signature, envelope.canonical(), PKCS1v15(), HASHES[envelope.signature_version])
    except (InvalidSignature, binascii.Error, ValueError) as error:
        raise CallbackRefusedError("Signature does not match") from error


def read(body: bytes) -> Envelope:
    """Return the envelope of a body, not verified yet; raises CallbackRefusedError with every fault."""
    if len(body) > LARGEST_BODY:
        raise CallbackRefusedError(f"larger than {LARGEST_BODY} bytes")
    try:
        envelope = DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise CallbackRefusedError("; ".join(faults(body))) from None
    if wrong := [*unknown(envelope.type, envelope.signature_version), *missing(envelope)]:
        raise CallbackRefusedError("; ".join(wrong))
    return envelope


def faults(body: bytes) -> list[str]:
    """Return what is wrong with a body that is no envelope, by field and without its content."""
    raw = parsed(body)
    if isinstance(raw, str):
        return [raw]
    wrong = [f"{name} is missing" for name in ALWAYS if name not in raw]
    wrong += [f"{name} is not text" for name in ALWAYS if name in raw and not isinstance(raw[name], str)]
    optional = ("Subject", "Token", "SubscribeURL")
    wrong += [f"{name} is not text" for name in optional if not isinstance(raw.get(name), str | None)]
    return wrong + unknown(raw.get("Type", "Notification"), raw.get("SignatureVersion", "1"))


def parsed(body: bytes | str) -> dict[str, Any] | str:
    """Return the JSON object of a body, or why there is none."""
    try:
        raw = msgspec.json.decode(body)
    except RecursionError:
        return "nested too deeply"
    except UnicodeError:
        return "not UTF-8"
    except msgspec.DecodeError:
        return "not JSON"
    return raw if isinstance(raw, dict) else "not a JSON object"


def unknown(kind: object, version: object) -> list[str]:
    known = {"Type is unknown": str(kind) in SIGNED, "SignatureVersion is unknown": str(version) in HASHES}
    return [fault for fault, fine in known.items() if not fine]


def missing(envelope: Envelope) -> list[str]:
    if envelope.type == "Notification":
        return []
    needed = {"Token": envelope.token, "SubscribeURL": envelope.subscribe_url}
    return [f"{name} is missing" for name, value in needed.items() if value is None]
