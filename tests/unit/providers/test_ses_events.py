import contextlib
import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.values import Report, ReportKind
from providers.contract import CallbackRefusedError
from providers.ses_events import KINDS, reports

NOTIFICATION = UUID("0198c0de-0000-7000-8000-000000000001")
ATTEMPT = UUID("0198c0de-0000-7000-8000-000000000002")
AT = "2026-03-01T10:00:00.500Z"
MOMENT = datetime(2026, 3, 1, 10, 0, 0, 500000, tzinfo=UTC)
MAIL = {
    "timestamp": "2026-03-01T09:59:00.000Z",
    "messageId": "0102-abc-000000",
    "destination": ["jane@acme.example"],
    "tags": {"notification": [str(NOTIFICATION)], "attempt": [str(ATTEMPT)], "ses:operation": ["SendEmail"]},
}
SAID = "smtp; 550 5.1.1 <jane@acme.example>: no such user at 5.1.1.9"
PERSON = {"emailAddress": "jane@acme.example", "action": "failed", "diagnosticCode": SAID}
DETAILS: dict[str, dict[str, Any]] = {
    "Send": {"send": {}},
    "Delivery": {"delivery": {"timestamp": AT, "recipients": ["jane@acme.example"], "smtpResponse": "250 jane"}},
    "DeliveryDelay": {"deliveryDelay": {"timestamp": AT, "delayType": "MailboxFull", "delayedRecipients": [PERSON]}},
    "Bounce": {
        "bounce": {
            "timestamp": AT,
            "bounceType": "Permanent",
            "bounceSubType": "General",
            "bouncedRecipients": [PERSON],
        }
    },
    "Complaint": {
        "complaint": {
            "timestamp": AT,
            "complaintFeedbackType": "abuse",
            "complainedRecipients": [PERSON],
            "userAgent": "jane",
        }
    },
    "Open": {"open": {"timestamp": AT, "ipAddress": "192.0.2.1", "userAgent": "jane's phone"}},
    "Click": {"click": {"timestamp": AT, "ipAddress": "192.0.2.1", "link": "https://Shop.Acme.example/jane?token=1"}},
    "Reject": {"reject": {"reason": "Bad content"}},
    "Rendering Failure": {"failure": {"errorMessage": "jane is missing", "templateName": "t"}},
    "Subscription": {"subscription": {"timestamp": AT, "newTopicPreferences": {"unsubscribeAll": True}}},
}
EVIDENCE = {
    "DeliveryDelay": {"delay_type": "MailboxFull", "status": "5.1.1"},
    "Bounce": {"bounce_type": "Permanent", "bounce_sub_type": "General", "status": "5.1.1"},
    "Complaint": {"feedback_type": "abuse"},
    "Click": {"link_host": "shop.acme.example"},
    "Reject": {"reason": "Bad content"},
}
MEANINGS = {
    "Send": "dispatched",
    "Delivery": "delivered",
    "DeliveryDelay": "delayed",
    "Bounce": "bounced",
    "Complaint": "complained",
    "Open": "opened",
    "Click": "clicked",
    "Reject": "rejected",
    "Rendering Failure": "rejected",
    "Subscription": "unsubscribed",
}
WITHOUT_A_TIME_OF_ITS_OWN = {"Send", "Reject", "Rendering Failure"}


def message(kind: str, **changes: Any) -> str:
    return json.dumps({"eventType": kind, "mail": MAIL, **DETAILS[kind], **changes})


@pytest.mark.parametrize("kind", DETAILS)
def test_each_event_is_a_report_of_its_mail_and_attempt(kind: str):
    (report,) = reports(message(kind))
    own = kind not in WITHOUT_A_TIME_OF_ITS_OWN
    moment = MOMENT if own else datetime(2026, 3, 1, 9, 59, tzinfo=UTC)
    assert report == Report(
        provider="ses",
        reference="0102-abc-000000",
        kind=ReportKind(MEANINGS[kind]),
        key=f"{kind}:0102-abc-000000:{moment.isoformat()}:0",
        notification=NOTIFICATION,
        attempt=ATTEMPT,
        occurred_at=moment,
        evidence=EVIDENCE.get(kind, {}),
        suppresses=kind in {"Bounce", "Complaint"},
    )


@pytest.mark.parametrize(
    ("kind", "part", "changes", "suppresses"),
    [
        ("Bounce", "bounce", {"bounceType": "Permanent", "bounceSubType": "OnAccountSuppressionList"}, True),
        ("Bounce", "bounce", {"bounceType": "Transient"}, False),
        ("Bounce", "bounce", {"bounceType": "Undetermined"}, False),
        ("Complaint", "complaint", {"complaintFeedbackType": None}, True),
        ("Complaint", "complaint", {"complaintFeedbackType": "not-spam"}, False),
    ],
)
def test_i07_a_hard_bounce_and_a_complaint_forbid_the_address(
    kind: str, part: str, changes: dict[str, Any], *, suppresses: bool
):
    (report,) = reports(message(kind, **{part: DETAILS[kind][part] | changes}))
    assert report.suppresses is suppresses


def test_every_kind_of_report_has_its_event():
    assert set(MEANINGS) == set(DETAILS) == set(KINDS)
    assert set(MEANINGS.values()) == set(ReportKind)


@pytest.mark.parametrize("kind", DETAILS)
def test_i18_no_report_holds_an_address_or_what_the_person_uses(kind: str):
    written = msgspec.json.encode(reports(message(kind))).decode()
    for personal in ("jane", "@", "192.0.2.1", "token", "phone"):
        assert personal not in written


@pytest.mark.parametrize("kind", ["Bounce", "Complaint", "Delivery"])
def test_the_older_name_of_the_type_is_read_as_the_same_event(kind: str):
    older = json.dumps({"notificationType": kind, "mail": MAIL, **DETAILS[kind]})
    assert reports(older) == reports(message(kind))


def test_each_recipient_of_a_bounce_has_a_report_with_a_key_of_its_own():
    people = [PERSON, {"emailAddress": "joe@acme.example", "status": "4.2.2"}]
    bounce = DETAILS["Bounce"]["bounce"] | {"bouncedRecipients": people}
    found = reports(message("Bounce", bounce=bounce))
    assert [report.evidence["status"] for report in found] == ["5.1.1", "4.2.2"]
    assert len({report.key for report in found}) == 2


def test_a_complaint_that_names_nobody_is_still_reported():
    complaint = {"timestamp": AT, "complainedRecipients": []}
    assert [report.kind for report in reports(message("Complaint", complaint=complaint))] == [ReportKind.COMPLAINED]


def test_a_status_code_is_not_taken_out_of_an_ip_address():
    bounce = DETAILS["Bounce"]["bounce"] | {
        "bouncedRecipients": [{"diagnosticCode": "refused by 10.5.1.1, 5.1.1.9 and 5.2.3"}]
    }
    (report,) = reports(message("Bounce", bounce=bounce))
    assert report.evidence["status"] == "5.2.3"


def test_a_subscriber_who_stays_is_no_report():
    stays = {"timestamp": AT, "newTopicPreferences": {"topicSubscriptionStatus": [{"subscriptionStatus": "OptIn"}]}}
    leaves = {"timestamp": AT, "newTopicPreferences": {"topicSubscriptionStatus": [{"subscriptionStatus": "OptOut"}]}}
    assert reports(message("Subscription", subscription=stays)) == []
    assert [report.kind for report in reports(message("Subscription", subscription=leaves))] == [
        ReportKind.UNSUBSCRIBED
    ]


def test_what_ses_posts_when_a_topic_is_attached_is_no_report():
    assert reports("Successfully validated SNS topic for Amazon SES event publishing.\n") == []
    assert reports('{"notificationType":"AmazonSnsSubscriptionSucceeded","message":"You have …"}') == []


@pytest.mark.parametrize("tags", [None, {}, {"notification": []}, {"notification": ["x"], "attempt": ["\0"]}])
def test_a_mail_without_our_ids_is_matched_by_its_reference_alone(tags: object):
    (report,) = reports(message("Send", mail=MAIL | {"tags": tags}))
    assert (report.reference, report.notification, report.attempt) == ("0102-abc-000000", None, None)


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("", ["not JSON"]),
        ("[1]", ["not a JSON object"]),
        ("[" * 100_000, ["nested too deeply"]),
        ('{"x":' * 100_000, ["nested too deeply"]),
        ("{}", ["eventType is unknown", "mail is missing"]),
        ('{"eventType":"Bounce"}', ["mail is missing", "bounce is missing"]),
        ('{"eventType":"Teleport"}', ["eventType is unknown", "mail is missing"]),
        ('{"eventType":5,"mail":{"messageId":"jane@x"},"open":{}}', ["eventType:", "mail:", "open:"]),
        (message("Send", mail=MAIL | {"messageId": "a b"}), ["mail:"]),
        (message("Send", mail=MAIL | {"messageId": "a\n"}), ["mail:"]),
        (message("Send", mail=MAIL | {"timestamp": "2026-03-01T10:00:00"}), ["mail:"]),
        (message("Send", mail=MAIL | {"timestamp": "9999-12-31T23:59:59-01:00"}), ["a time is out of range"]),
        (message("Open", open={"timestamp": "0001-01-01T00:00:00+01:00"}), ["a time is out of range"]),
        (message("Open", open=[[]], bounce=7), ["open:", "bounce:"]),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_message_that_is_no_event_is_refused_by_every_fault_without_its_content(text: str, faults: list[str]):
    with pytest.raises(CallbackRefusedError) as refused:
        reports(text)
    assert all(fault in str(refused.value) for fault in faults)
    assert "jane" not in str(refused.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text() | st.datetimes().map(str),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    ["eventType", "notificationType", "mail", *(name for detail in DETAILS.values() for name in detail)]
)


@given(kind=st.sampled_from(list(DETAILS)), changes=st.dictionaries(NAMES, JSON, max_size=3), cut=st.integers(0, 400))
def test_whatever_is_posted_is_reports_or_a_refusal(kind: str, changes: dict[str, Any], cut: int):
    whole = json.dumps({"eventType": kind, "mail": MAIL, **DETAILS[kind], **changes})
    for text in (whole, whole[:-cut] if cut else whole, whole.replace(": ", ':"', 1)):
        try:
            found = reports(text)
        except CallbackRefusedError:
            continue
        assert all(isinstance(report, Report) for report in found)
        msgspec.json.encode(found)


@given(st.text())
def test_any_text_is_no_event_or_is_refused(text: str):
    with contextlib.suppress(CallbackRefusedError):
        assert reports(text) == []
