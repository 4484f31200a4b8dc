import pytest

from providers.smtp_url import Relay, RelayUrlError, Security


@pytest.mark.parametrize(
    ("url", "relay"),
    [
        (
            "smtp://user:pass@relay.example:2587",
            Relay(host="relay.example", port=2587, security=Security.STARTTLS, user="user", password="pass"),
        ),
        (
            "smtps://u%40x:p%2F%3A@relay.example",
            Relay(host="relay.example", port=465, security=Security.TLS, user="u@x", password="p/:"),
        ),
        ("smtp://relay.example", Relay(host="relay.example", port=587, security=Security.STARTTLS)),
        ("smtp://127.0.0.1:2525/?starttls=off", Relay(host="127.0.0.1", port=2525, security=Security.NONE)),
        ("smtp://[::1]?starttls=off", Relay(host="::1", port=25, security=Security.NONE)),
    ],
)
def test_a_url_names_a_relay(url: str, relay: Relay):
    assert Relay.of(url) == relay


@pytest.mark.parametrize(
    "url",
    [
        "",
        "relay.example",
        "http://s3cret@relay.example",
        "smtp://",
        "smtp://user:s3cret@",
        "smtp://user:s3cret@relay.example:port",
        "smtp://user:s3cret@relay.example:99999",
        "smtp://user:s3cret@[relay.example",
        "smtp://user@relay.example?s3cret",
        "smtp://:s3cret@relay.example",
        "smtp://user:s3cret@relay.example/inbox",
        "smtp://user:s3cret@relay.example#x",
        "smtp://user:s3cret@relay.example?starttls=on",
        "smtp://user:s3cret@relay.example?starttls=off&x=y",
        "smtp://user:s3cret@relay.example?starttls=off",
        "smtps://user:s3cret@relay.example?starttls=off",
        # A slash or a number sign of a password that is not escaped ends the host.
        "smtp://user:s3cret/x@relay.example",
        "smtp://user:s3cret#x@relay.example",
        "smtp://user:s3cret?x@relay.example",
    ],
)
def test_what_names_no_relay_is_refused_without_a_word_of_it(url: str):
    with pytest.raises(RelayUrlError) as fault:
        Relay.of(url)
    assert "s3cret" not in str(fault.value)
    assert fault.value.__cause__ is None
    assert fault.value.__suppress_context__ or fault.value.__context__ is None


def test_a_relay_does_not_show_its_password():
    assert "s3cret" not in repr(Relay.of("smtp://user:s3cret@relay.example"))
