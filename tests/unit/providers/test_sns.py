import asyncio
import base64
import contextlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from providers.contract import CallbackRefusedError, CallbackUnavailableError
from providers.fakes.sns import Seal, Topic
from providers.ses_callbacks import SesCallbacks
from providers.sns import Envelope, Verifier, origin_of, read

ARN = "arn:aws:sns:eu-west-1:000000000000:ses-events"
HOST = "https://sns.eu-west-1.amazonaws.com"
CERTIFICATE = f"{HOST}/SimpleNotificationService-{'0af9' * 8}.pem"
NOTIFICATION = {
    "Type": "Notification",
    "MessageId": "b7f1",
    "TopicArn": ARN,
    "Subject": "Grüße",
    "Message": "two\nlines ✓",
    "Timestamp": "2026-03-01T10:00:00.500Z",
}
CONFIRMATION = {
    "Type": "SubscriptionConfirmation",
    "MessageId": "c2d4",
    "TopicArn": ARN,
    "Message": "You have chosen to subscribe.",
    "Timestamp": "2026-03-01T10:00:00.500Z",
    "Token": "2336412f37fb",
    "SubscribeURL": f"{HOST}/?Action=ConfirmSubscription&TopicArn={ARN}&Token=2336412f37fb",
}
# Written out by hand from the SNS developer guide, "Verifying the signatures of Amazon SNS messages".
CANONICAL_NOTIFICATION = (
    "Message\ntwo\nlines ✓\nMessageId\nb7f1\nSubject\nGrüße\nTimestamp\n2026-03-01T10:00:00.500Z\n"
    f"TopicArn\n{ARN}\nType\nNotification\n"
)
CANONICAL_CONFIRMATION = (
    "Message\nYou have chosen to subscribe.\nMessageId\nc2d4\n"
    f"SubscribeURL\n{HOST}/?Action=ConfirmSubscription&TopicArn={ARN}&Token=2336412f37fb\n"
    f"Timestamp\n2026-03-01T10:00:00.500Z\nToken\n2336412f37fb\nTopicArn\n{ARN}\nType\nSubscriptionConfirmation\n"
)


class Signer:
    """Signs by the openssl program: nothing of ours takes part."""

    def __init__(self, folder: Path) -> None:
        self._key = folder / "key.pem"
        certificate = folder / "certificate.pem"
        openssl(
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=sns",
            "-keyout",
            self._key,
            "-out",
            certificate,
        )
        self.certificate = certificate.read_bytes()

    def sign(self, text: str, *, version: str) -> str:
        digest = {"1": "-sha1", "2": "-sha256"}[version]
        return base64.b64encode(openssl("dgst", digest, "-sign", self._key, text=text.encode())).decode()

    def body(self, fields: dict[str, Any], text: str, *, version: str = "2", url: str = CERTIFICATE) -> bytes:
        signature = {"Signature": self.sign(text, version=version), "SignatureVersion": version, "SigningCertURL": url}
        return json.dumps(fields | signature).encode()


class Web:
    """The outside as the verifier sees it: answers with one body, or breaks; `visited` are the URLs it was asked."""

    def __init__(self, answer: bytes | Exception) -> None:
        self.answer = answer
        self.visited: list[str] = []

    async def __call__(self, url: str) -> bytes:
        self.visited.append(url)
        await asyncio.sleep(0)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def openssl(*arguments: object, text: bytes = b"") -> bytes:
    return subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, input=text).stdout


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return Signer(tmp_path_factory.mktemp("signer"))


@pytest.fixture
def web(signer: Signer) -> Web:
    return Web(signer.certificate)


@pytest.fixture
def verifier(web: Web) -> Verifier:
    return Verifier(topics=[ARN], fetch=web)


@pytest.mark.parametrize("version", ["1", "2"])
async def test_what_an_allowed_topic_signed_is_verified(signer: Signer, verifier: Verifier, version: str):
    for fields, text in ((NOTIFICATION, CANONICAL_NOTIFICATION), (CONFIRMATION, CANONICAL_CONFIRMATION)):
        envelope = await verifier.verify(signer.body(fields, text, version=version))
        assert (envelope.type, envelope.message) == (fields["Type"], fields["Message"])


async def test_a_notification_without_a_subject_is_signed_without_it(signer: Signer, verifier: Verifier):
    text = CANONICAL_NOTIFICATION.replace("Subject\nGrüße\n", "")
    bare = {name: value for name, value in NOTIFICATION.items() if name != "Subject"}
    for fields in (bare, bare | {"Subject": None}):
        assert (await verifier.verify(signer.body(fields, text))).subject is None


@pytest.mark.parametrize("name", ["Type", "MessageId", "Subject", "Message", "Timestamp"])
async def test_any_signed_field_that_was_changed_is_refused(signer: Signer, verifier: Verifier, name: str):
    changed = CONFIRMATION if name == "Type" else NOTIFICATION | {name: f"{NOTIFICATION[name]}."}
    with pytest.raises(CallbackRefusedError, match="Signature"):
        await verifier.verify(signer.body(changed, CANONICAL_NOTIFICATION))


@pytest.mark.parametrize("signature", ["", "x", "AAAA", "é", "A" * 344])
async def test_what_is_no_signature_is_refused(signer: Signer, verifier: Verifier, signature: str):
    body = json.loads(signer.body(NOTIFICATION, CANONICAL_NOTIFICATION)) | {"Signature": signature}
    with pytest.raises(CallbackRefusedError, match="Signature"):
        await verifier.verify(json.dumps(body).encode())


async def test_a_signature_of_one_version_is_none_of_the_other(signer: Signer, verifier: Verifier):
    body = json.loads(signer.body(NOTIFICATION, CANONICAL_NOTIFICATION, version="1")) | {"SignatureVersion": "2"}
    with pytest.raises(CallbackRefusedError, match="Signature"):
        await verifier.verify(json.dumps(body).encode())


async def test_a_topic_that_is_not_allowed_is_refused_before_anything_is_fetched(
    signer: Signer, verifier: Verifier, web: Web
):
    other = NOTIFICATION | {"TopicArn": ARN.replace("ses-events", "ses-event")}
    with pytest.raises(CallbackRefusedError, match="TopicArn"):
        await verifier.verify(signer.body(other, CANONICAL_NOTIFICATION))
    assert web.visited == []


@pytest.mark.parametrize(
    "url",
    [
        CERTIFICATE.replace("https:", "http:"),
        CERTIFICATE.replace("https:", "HTTPS:"),
        CERTIFICATE.replace("eu-west-1", "eu-west-2"),
        CERTIFICATE.replace("sns.eu-west-1.amazonaws.com", "sns.eu-west-1.amazonaws.com.cn"),
        CERTIFICATE.replace("sns.eu-west-1.amazonaws.com", "sns.eu-west-1.amazonaws.com.evil.example"),
        CERTIFICATE.replace("sns.eu-west-1.amazonaws.com", "sns.eu-west-1.s3.amazonaws.com"),
        CERTIFICATE.replace("sns.eu-west-1.amazonaws.com", "bucket.s3.eu-west-1.amazonaws.com"),
        CERTIFICATE.replace("sns.", "evilsns."),
        CERTIFICATE.replace("sns.eu-west-1.amazonaws.com", "snsXeu-west-1.amazonaws.com"),
        CERTIFICATE.replace("https://", "https://sns.eu-west-1.amazonaws.com@evil.example/"),
        CERTIFICATE.replace("https://", "https://user:pass@"),
        CERTIFICATE.replace(".com/", ".com:443/"),
        CERTIFICATE.replace(".com/", ".com./"),
        CERTIFICATE.replace(".com/", ".com//"),
        CERTIFICATE.replace(".com/", ".com/x/../"),
        CERTIFICATE.replace(".com/", ".com\\@evil.example/"),
        f"{CERTIFICATE}\n",
        f" {CERTIFICATE}",
        f"{CERTIFICATE}?x=1",
        f"{CERTIFICATE}#x",
        f"{CERTIFICATE}/../x",
        CERTIFICATE.replace(".pem", ".txt"),
        CERTIFICATE.replace(".pem", "xpem"),
        CERTIFICATE.replace("0af9", "0AF9"),
        CERTIFICATE.replace("0af9", "0afg"),
        CERTIFICATE.replace("0af9", "\N{ARABIC-INDIC DIGIT ZERO}af9"),
        CERTIFICATE.replace("0af9", "0af", 1),
        HOST,
        f"{HOST}/",
        "",
        "file:///etc/passwd",
    ],
)
async def test_a_certificate_from_anywhere_else_is_neither_fetched_nor_trusted(
    signer: Signer, verifier: Verifier, web: Web, url: str
):
    with pytest.raises(CallbackRefusedError, match="SigningCertURL"):
        await verifier.verify(signer.body(NOTIFICATION, CANONICAL_NOTIFICATION, url=url))
    assert web.visited == []


def test_the_host_is_that_of_the_topics_own_region_and_partition():
    assert origin_of("arn:aws:sns:us-east-1:123456789012:a") == "https://sns.us-east-1.amazonaws.com"
    assert origin_of("arn:aws-cn:sns:cn-north-1:123456789012:a") == "https://sns.cn-north-1.amazonaws.com.cn"
    assert (
        origin_of("arn:aws-us-gov:sns:us-gov-west-1:123456789012:a.fifo") == "https://sns.us-gov-west-1.amazonaws.com"
    )


@pytest.mark.parametrize(
    "topic",
    ["", "topic", "arn:aws:sqs:eu-west-1:123456789012:a", "arn:aws:sns:evil.example/:123456789012:a", f"{ARN}\n"],
)
def test_a_topic_that_is_none_is_refused_when_the_verifier_is_made(web: Web, topic: str):
    with pytest.raises(ValueError, match="not the ARN"):
        Verifier(topics=[topic], fetch=web)


@pytest.mark.parametrize("answer", [OSError("no route"), TimeoutError(), ValueError("answered 404"), b"", b"<html>"])
async def test_i09_a_certificate_that_cannot_be_had_is_our_trouble_and_is_fetched_again(
    signer: Signer, verifier: Verifier, web: Web, answer: bytes | Exception
):
    web.answer = answer
    body = signer.body(NOTIFICATION, CANONICAL_NOTIFICATION)
    with pytest.raises(CallbackUnavailableError):
        await verifier.verify(body)
    web.answer = signer.certificate
    assert (await verifier.verify(body)).message_id == "b7f1"


async def test_a_certificate_is_fetched_once_however_many_ask_for_it(signer: Signer, verifier: Verifier, web: Web):
    body = signer.body(NOTIFICATION, CANONICAL_NOTIFICATION)
    await asyncio.gather(*(verifier.verify(body) for _ in range(50)))
    await verifier.verify(body)
    assert web.visited == [CERTIFICATE]


async def test_strangers_urls_neither_fill_the_memory_nor_start_fetches_without_end(
    signer: Signer, verifier: Verifier, web: Web
):
    urls = [CERTIFICATE.replace("0af9", f"{number:04x}") for number in range(100)]
    bodies = [signer.body(NOTIFICATION, CANONICAL_NOTIFICATION, url=url) for url in urls]
    results = await asyncio.gather(*map(verifier.verify, bodies), return_exceptions=True)
    assert len(web.visited) == 8
    assert sum(isinstance(result, CallbackUnavailableError) for result in results) == 92
    for body in bodies:
        await verifier.verify(body)
    assert len(verifier._keys) == 16


async def test_a_subscription_is_confirmed_at_the_topics_own_host_whatever_url_was_posted(
    signer: Signer, verifier: Verifier, web: Web
):
    evil = CONFIRMATION | {"SubscribeURL": "https://evil.example/"}
    text = CANONICAL_CONFIRMATION.replace(CONFIRMATION["SubscribeURL"], "https://evil.example/")
    assert await SesCallbacks(verifier).read(signer.body(evil, text), {}) == []
    query = f"Action=ConfirmSubscription&TopicArn={ARN.replace(':', '%3A')}&Token=2336412f37fb"
    assert web.visited == [CERTIFICATE, f"{HOST}/?{query}"]


async def test_a_subscription_that_cannot_be_confirmed_is_our_trouble(signer: Signer, verifier: Verifier, web: Web):
    body = signer.body(CONFIRMATION, CANONICAL_CONFIRMATION)
    await verifier.verify(body)
    web.answer = OSError("no route")
    with pytest.raises(CallbackUnavailableError):
        await SesCallbacks(verifier).read(body, {})


async def test_the_end_of_a_subscription_is_no_report_and_confirms_nothing(
    signer: Signer, verifier: Verifier, web: Web
):
    over = CONFIRMATION | {"Type": "UnsubscribeConfirmation"}
    text = CANONICAL_CONFIRMATION.replace("SubscriptionConfirmation", "UnsubscribeConfirmation")
    assert await SesCallbacks(verifier).read(signer.body(over, text), {}) == []
    assert web.visited == [CERTIFICATE]


async def test_our_own_topic_is_believed_under_its_exact_origin_alone():
    seal = Seal()
    web = Web(seal.certificate)
    verifier = Verifier(topics=[ARN], fetch=web, origin="http://127.0.0.1:9025")
    ours = Topic(ARN, origin="http://127.0.0.1:9025", seal=seal)
    assert (await verifier.verify(ours.notification("x"))).message == "x"
    for origin in ("http://127.0.0.1:90255", "http://127.0.0.1:9025@evil.example", HOST):
        with pytest.raises(CallbackRefusedError, match="SigningCertURL"):
            await verifier.verify(Topic(ARN, origin=origin, seal=seal).notification("x"))


@pytest.mark.parametrize(
    ("body", "faults"),
    [
        (b"", ["not JSON"]),
        (b"\xff\xfe", ["not JSON"]),
        (b'{"Type":"\xff"}', ["not UTF-8"]),
        (b"null", ["not a JSON object"]),
        (b"[" * 10_000, ["nested too deeply"]),
        (b'{"x":' + b"[" * 10_000, ["nested too deeply"]),
        (b"x" * (1024 * 1024 + 1), ["larger than 1048576 bytes"]),
        (b"{}", ["Type is missing", "TopicArn is missing", "Message is missing", "Signature is missing"]),
        (
            json.dumps(CONFIRMATION | {"Type": [], "Message": 5, "Token": {}, "SignatureVersion": 1}).encode(),
            [
                "Type is not text",
                "Message is not text",
                "Token is not text",
                "SignatureVersion is not text",
                "Type is unknown",
            ],
        ),
    ],
    ids=lambda value: str(value[:20]),
)
def test_a_body_that_is_no_envelope_is_refused_by_every_fault(body: bytes, faults: list[str]):
    with pytest.raises(CallbackRefusedError) as refused:
        read(body)
    assert all(fault in str(refused.value) for fault in faults)


def test_a_confirmation_without_its_token_and_an_unknown_version_are_refused_together():
    fields = {
        **NOTIFICATION,
        "Type": "SubscriptionConfirmation",
        "Signature": "",
        "SigningCertURL": "",
        "SignatureVersion": "3",
    }
    with pytest.raises(
        CallbackRefusedError, match="SignatureVersion is unknown; Token is missing; SubscribeURL is missing"
    ):
        read(json.dumps(fields).encode())


VALUES = st.none() | st.booleans() | st.integers() | st.text(st.characters()) | st.lists(st.text(), max_size=2)
FIELDS = st.fixed_dictionaries(
    {}, optional=dict.fromkeys([*CONFIRMATION, "Signature", "SignatureVersion", "SigningCertURL"], VALUES)
)


@given(body=st.binary() | FIELDS.map(lambda fields: json.dumps(fields).encode()))
def test_whatever_is_posted_is_an_envelope_or_a_refusal(body: bytes):
    with contextlib.suppress(CallbackRefusedError):
        assert isinstance(read(body), Envelope)


@given(change=st.sampled_from([*CONFIRMATION, "Signature", "SigningCertURL"]), value=st.text(), cut=st.integers(0, 50))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_signed_by_nobody_is_refused(web: Web, change: str, value: str, cut: int):
    base = {**CONFIRMATION, "Signature": "AAAA", "SignatureVersion": "2", "SigningCertURL": CERTIFICATE, change: value}
    body = json.dumps(base).encode()
    verifier = Verifier(topics=[ARN], fetch=web)
    with pytest.raises(CallbackRefusedError):
        asyncio.run(verifier.verify(body[: len(body) - cut]))
