from datetime import UTC, datetime

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from providers.aws_signature import Signer

PATH = "/v2/email/outbound-emails"


@given(body=st.binary(), secret=st.text(min_size=1), token=st.none() | st.text("abc+/=", min_size=1))
@pytest.mark.parametrize(
    "origin", ["https://email.eu-west-1.amazonaws.com", "http://127.0.0.1:8025", "http://proxy.example/a%20b"]
)
def test_a_request_is_signed_as_the_sdk_would_sign_it(origin: str, body: bytes, secret: str, token: str | None):
    keys = Credentials("AKIDEXAMPLE", secret, token)
    signer = Signer(origin + PATH, region="eu-west-1", service="ses")
    theirs = AWSRequest("POST", origin + PATH, data=body, headers={"Content-Type": "application/json"})
    SigV4Auth(keys, "ses", "eu-west-1").add_auth(theirs)

    at = datetime.strptime(theirs.context["timestamp"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    ours = signer.headers(body, keys, at)

    assert ours["Authorization"] == theirs.headers["Authorization"]
    assert ours["X-Amz-Date"] == theirs.headers["X-Amz-Date"]
    assert ours.get("X-Amz-Security-Token") == theirs.headers.get("X-Amz-Security-Token")
