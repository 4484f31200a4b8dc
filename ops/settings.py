"""Every setting: read from the environment, a `.env` file or `*_FILE`, and checked as a whole.

Half of it are the settings with their meaning; which role needs one, and when it is right, is read beside them.
"""

import base64
import binascii
import os
import re
from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints
from urllib.parse import SplitResult, urlsplit

import msgspec
from dotenv import dotenv_values
from msgspec import Meta

from handlers.frequency import CEILING
from handlers.spending import Cap, CapsError, caps_in
from ledger.values import Channel, Retention
from ops.errors import SettingsError
from providers.google_access import CredentialsError, service_account
from providers.smtp_url import Relay, RelayUrlError
from templates.addresses import COUNTRIES

DOTENV = Path(".env")
_KEY_BYTES = 32
# The settings of Postgres that keep on disk what it has confirmed.
DURABILITY = frozenset({"fsync", "full_page_writes", "synchronous_commit"})


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The service's settings. Field names in capitals are the names in the environment."""

    database_url: Annotated[str, Meta(description="Postgres as the application's role (postgresql://…).")] = ""
    migration_database_url: Annotated[
        str, Meta(description="Postgres as the owner of the schema. For `migrate` only.")
    ] = ""
    application_role: Annotated[str, Meta(description="The role that `migrate` gives the application's rights to.")] = (
        "ledger_app"
    )
    amqp_url: Annotated[
        str,
        Meta(
            description="RabbitMQ (amqp://…). Absent: messages come over HTTP only, and status messages are not "
            "published."
        ),
    ] = ""
    installation: Annotated[
        str,
        Meta(
            description="The name of this installation. Must equal the database's own, or nothing is delivered: "
            "a copied database mails nobody."
        ),
    ] = ""
    recipient_allow_list: Annotated[
        str,
        Meta(
            description="Who may be written to: addresses and domains, separated by commas; `*` = everyone. "
            "Others end as suppressed."
        ),
    ] = ""
    test_recipients: Annotated[
        str,
        Meta(
            description="Who a template may be tried on (`POST /v1/test-sends`): addresses, phone numbers and domains, "
            "separated by commas; `*` = everyone. Empty: nobody."
        ),
    ] = ""
    key_encryption_key: Annotated[
        str,
        Meta(
            description="The key that wraps all data keys: 32 bytes in base64. Two during a rotation, separated by a "
            "comma, the new one first."
        ),
    ] = ""
    identity_key: Annotated[
        str,
        Meta(
            description="The key of all derived ids and address hashes: 32 bytes in base64. Only read when `migrate` "
            "makes an installation; absent = drawn."
        ),
    ] = ""
    jwt_issuer: Annotated[str, Meta(description="`iss` of the tokens that the HTTP API takes.")] = ""
    jwt_audience: Annotated[str, Meta(description="`aud` of the tokens that the HTTP API takes.")] = ""
    jwt_jwks_url: Annotated[str, Meta(description="Where the keys of those tokens are published (JWKS).")] = ""
    aws_region: Annotated[str, Meta(description="The region of SES.")] = ""
    ses_configuration_set: Annotated[
        str, Meta(description="The SES configuration set whose events are published to SNS.")
    ] = ""
    ses_endpoint_url: Annotated[str, Meta(description="Another address of the SES API (a VPC endpoint, a fake).")] = ""
    ses_rate: Annotated[
        float,
        Meta(
            description="Mails a second by SES, over all processes together; 0 = as many as it takes. Set it to the "
            "account's own maximum send rate.",
            ge=0,
        ),
    ] = 0
    ses_topic_arns: Annotated[str, Meta(description="The SNS topics whose reports are taken, separated by commas.")] = (
        ""
    )
    ses_certificate_origin: Annotated[
        str,
        Meta(
            description="Where the topics' certificates may come from, instead of Amazon's own host: for a fake only."
        ),
    ] = ""
    smtp_url: Annotated[
        str,
        Meta(
            description="The relay for mail of the lanes urgent and high, while SES is shut and when SES has just "
            "refused it for certain: smtp://user:password@host:587 (STARTTLS) or smtps://user:password@host:465. "
            "A relay on the same host may be spoken to in clear, without a login: smtp://host:25?starttls=off."
        ),
    ] = ""
    smtp_rate: Annotated[
        float, Meta(description="Mails a second by the relay, over all processes together; 0 = no limit.", ge=0)
    ] = 0
    fcm_credentials: Annotated[
        str,
        Meta(
            description="The JSON key of the Google service account that sends pushes, the whole text; better as "
            "FCM_CREDENTIALS_FILE. `deliver` needs it where push is among the CHANNELS."
        ),
    ] = ""
    fcm_base_url: Annotated[str, Meta(description="Another address of the FCM API (a fake).")] = ""
    fcm_rate: Annotated[
        float, Meta(description="Pushes a second by FCM, over all processes together; 0 = as many as it takes.", ge=0)
    ] = 0
    channels: Annotated[
        str,
        Meta(
            description="The channels that this installation serves, separated by commas: email, sms, push. What a "
            "message asks for on another one is left out."
        ),
    ] = "email"
    sms_sender: Annotated[
        str, Meta(description="Who an SMS comes from: a number, a name, or a messaging service of the provider.")
    ] = ""
    sms_countries: Annotated[
        str,
        Meta(
            description="The countries whose numbers an SMS may go to: ISO 3166 codes such as GB, separated by commas; "
            "`*` = every one. Others end as suppressed."
        ),
    ] = "*"
    twilio_account_sid: Annotated[str, Meta(description="The account at Twilio (AC…).")] = ""
    twilio_auth_token: Annotated[
        str,
        Meta(
            description="The account's auth token. Two during a rotation, separated by a comma, the new one first: "
            "calls use the first, reports may be signed by either."
        ),
    ] = ""
    twilio_shared_key: Annotated[
        str,
        Meta(
            description="The secret of a shared key, where Twilio signs reports by one and not by the auth token. Two "
            "during a rotation, separated by a comma."
        ),
    ] = ""
    twilio_base_url: Annotated[str, Meta(description="Another address of Twilio's API (a region, a fake).")] = ""
    twilio_rate: Annotated[
        float, Meta(description="SMS a second by Twilio, over all processes together; 0 = as many as it takes.", ge=0)
    ] = 0
    public_url: Annotated[
        str,
        Meta(
            description="Where providers and people reach our API from outside (https://notifications.shop.example): "
            "goes out as the address of reports, whose signatures are over it, and of the links that unsubscribe."
        ),
    ] = ""
    catalogue: Annotated[str, Meta(description="Another catalogue file than the one that is shipped.")] = ""
    templates: Annotated[str, Meta(description="Another folder of templates than the one that is shipped.")] = ""
    prices: Annotated[
        str, Meta(description="Another price list than the one that is shipped, whose prices are examples.")
    ] = ""
    spend_caps: Annotated[
        str,
        Meta(
            description="What may be spent in a UTC day by the price list, separated by commas: `sms=100 USD` on a "
            "channel, `sms:GB=50 USD` on its numbers of one country. What would be more waits for the next day. "
            "Absent: no cap."
        ),
    ] = ""
    recipient_ceiling: Annotated[
        int,
        Meta(
            description="How many notifications of one type a person may get in an hour; what a program that has run "
            "away asks for beyond it ends as suppressed, with an alert.",
            ge=1,
        ),
    ] = CEILING
    archive_url: Annotated[
        str,
        Meta(
            description="Where weeks of facts go when they leave the database: file:///a/directory that every process "
            "sees, or s3://bucket/prefix. Absent: they stay."
        ),
    ] = ""
    archive_endpoint_url: Annotated[str, Meta(description="Another address of S3 (a VPC endpoint, a fake).")] = ""
    archive_database_url: Annotated[
        str,
        Meta(
            description="Postgres as ARCHIVE_ROLE, for `maintain` and the command `archive`: weeks are dropped by this "
            "login. Absent: by the application's."
        ),
    ] = ""
    archive_role: Annotated[
        str,
        Meta(
            description="The role that `migrate` gives the right to drop archived weeks to, and takes it from the "
            "application's. Absent: that right stays where it is."
        ),
    ] = ""
    archive_after: Annotated[
        int, Meta(description="Weeks after its end that a week's facts stay in the database.", ge=13, le=520)
    ] = 13
    content_days: Annotated[
        str,
        Meta(
            description="Days after the end of its week that what was said is kept, by retention class. What a class "
            "is not named for is kept with its facts, and keeps them in the database."
        ),
    ] = "security=14, marketing=30, standard=90"
    host: Annotated[str, Meta(description="The address that the HTTP API listens on.")] = "127.0.0.1"
    port: Annotated[int, Meta(description="The port of the HTTP API.")] = 8080
    ops_port: Annotated[int, Meta(description="The port of health and metrics, for every role.")] = 9090
    database_pool_size: Annotated[int, Meta(description="Reading connections of one process.", ge=2, le=100)] = 8
    allow_unsafe_database: Annotated[
        str,
        Meta(
            description="Which of `fsync`, `full_page_writes` and `synchronous_commit` may be off in Postgres, "
            "separated by commas, where something else keeps what was confirmed; `true` = all, for tests alone."
        ),
    ] = ""
    delivery_slots: Annotated[
        int, Meta(description="Notifications of one channel that a process handles at a time.", ge=1, le=1000)
    ] = 128
    log_level: Annotated[str, Meta(description="debug, info, warning or error.")] = "info"

    def encryption_keys(self) -> list[bytes]:
        """Return KEY_ENCRYPTION_KEY as bytes, the wrapping one first."""
        return [base64.b64decode(key) for key in _listed(self.key_encryption_key)]

    def identity(self) -> bytes | None:
        """Return IDENTITY_KEY as bytes, None when it shall be drawn."""
        return base64.b64decode(self.identity_key) if self.identity_key else None

    def allowed_off(self) -> frozenset[str]:
        """Return ALLOW_UNSAFE_DATABASE as a set of Postgres' own names."""
        given = self.allow_unsafe_database.lower()
        return {"true": DURABILITY, "false": frozenset[str]()}.get(given, frozenset(_listed(given)))

    def allow_list(self) -> frozenset[str]:
        """Return RECIPIENT_ALLOW_LIST as a set."""
        return frozenset(entry.lower() for entry in _listed(self.recipient_allow_list))

    def testers(self) -> frozenset[str]:
        """Return TEST_RECIPIENTS as a set."""
        return frozenset(entry.lower() for entry in _listed(self.test_recipients))

    def twilio_auth_tokens(self) -> list[str]:
        """Return TWILIO_AUTH_TOKEN as a list, the one that calls use first."""
        return _listed(self.twilio_auth_token)

    def twilio_callback_secrets(self) -> list[str]:
        """Return every secret that a report of Twilio's may be signed by."""
        return [*self.twilio_auth_tokens(), *_listed(self.twilio_shared_key)]

    def served(self) -> frozenset[Channel]:
        """Return CHANNELS as a set."""
        return frozenset(Channel(name) for name in _listed(self.channels))

    def countries(self) -> frozenset[str]:
        """Return SMS_COUNTRIES as a set."""
        return frozenset(_listed(self.sms_countries.upper()))

    def caps(self) -> tuple[Cap, ...]:
        """Return SPEND_CAPS as caps."""
        return caps_in(self.spend_caps)

    def content_kept(self) -> dict[str, timedelta]:
        """Return CONTENT_DAYS by retention class."""
        named = (part.partition("=") for part in _listed(self.content_days))
        return {name.strip(): timedelta(days=int(days)) for name, _, days in named}

    def topics(self) -> frozenset[str]:
        """Return SES_TOPIC_ARNS as a set."""
        return frozenset(_listed(self.ses_topic_arns))


# What a running process takes over when its file changes (ops.reloading); any other setting takes a restart.
SECRETS = frozenset(
    {
        "database_url",
        "migration_database_url",
        "archive_database_url",
        "amqp_url",
        "key_encryption_key",
        "identity_key",
        "smtp_url",
        "fcm_credentials",
        "twilio_auth_token",
        "twilio_shared_key",
    }
)

# What each role cannot do without.
REQUIRED: Mapping[str, Collection[str]] = {
    "api": ("database_url", "key_encryption_key", "jwt_issuer", "jwt_audience", "jwt_jwks_url"),
    "ingest": ("database_url", "key_encryption_key", "amqp_url"),
    "deliver": ("database_url", "key_encryption_key", "installation", "recipient_allow_list"),
    "project": ("database_url", "key_encryption_key"),
    "maintain": ("database_url", "key_encryption_key"),
    "migrate": ("migration_database_url", "key_encryption_key", "installation"),
    "read": ("database_url", "key_encryption_key"),
}


# What a role cannot do without when CHANNELS names a channel.
REQUIRED_FOR: Mapping[Channel, Mapping[str, Collection[str]]] = {
    Channel.EMAIL: {"deliver": ("aws_region", "public_url")},
    Channel.SMS: {
        "api": ("twilio_auth_token", "public_url"),
        "deliver": ("sms_sender", "twilio_account_sid", "twilio_auth_token", "public_url"),
    },
    Channel.PUSH: {"deliver": ("fcm_credentials",)},
}


class Described(msgspec.Struct, frozen=True):
    """A setting, for people."""

    name: str
    default: str
    meaning: str
    required_by: tuple[str, ...]
    secret: bool


def load(environment: Mapping[str, str] | None = None, *, dotenv: Path | None = DOTENV) -> Settings:
    """Read the settings; the environment wins over the file.

    Raises SettingsError that names every faulty setting, and never a value.
    """
    given = _given(environment, dotenv)
    faults: list[str] = []
    fields = {}
    for name, kind in _kinds().items():
        text = _text(name, given, faults)
        if text is not None:
            fields[name] = _converted(name, text, kind, faults)
    settings = Settings(**{name: value for name, value in fields.items() if value is not None})
    faults += [f"{name.upper()} {fault}" for name, check, fault in _CHECKS if not check(getattr(settings, name))]
    if faults:
        raise SettingsError(faults)
    return settings


def files(environment: Mapping[str, str] | None = None, *, dotenv: Path | None = DOTENV) -> dict[str, Path]:
    """Return the files that settings are read from, by the setting's name."""
    given = _given(environment, dotenv)
    named = {name: given.get(f"{name.upper()}_FILE") for name in Settings.__struct_fields__}
    return {name: Path(path) for name, path in named.items() if path is not None}


def changed(settings: Settings, name: str, text: str) -> Settings:
    """Return the settings with one of them as its file says now. Raises SettingsError, as `load` does."""
    faults: list[str] = []
    value = _converted(name, text, _kinds()[name], faults)
    if not faults:
        faults += [f"{name.upper()} {fault}" for known, check, fault in _CHECKS if known == name and not check(value)]
    if name in SECRETS and not value:
        faults.append(f"{name.upper()} is empty")
    if faults:
        raise SettingsError(faults)
    return msgspec.structs.replace(settings, **{name: value})


def require(settings: Settings, roles: Collection[str]) -> None:
    """Raise SettingsError that names every setting which these roles need and which is not there."""
    needed = {name for role in roles for name in REQUIRED[role]}
    for channel in settings.served():
        needed |= {name for role in roles for name in REQUIRED_FOR.get(channel, {}).get(role, ())}
    missing = [name for name in Settings.__struct_fields__ if name in needed and not getattr(settings, name)]
    if missing:
        raise SettingsError([f"{name.upper()} is required" for name in missing])


def described() -> list[Described]:
    """Describe every setting."""
    hints = get_type_hints(Settings, include_extras=True)
    return [
        Described(
            name.upper(),
            str(default).lower() if isinstance(default, bool) else str(default),
            next(str(meta.description) for meta in get_args(hints[name]) if isinstance(meta, Meta)),
            (
                *(role for role, names in REQUIRED.items() if name in names),
                *(
                    f"{role} ({channel})"
                    for channel, roles in REQUIRED_FOR.items()
                    for role, names in roles.items()
                    if name in names
                ),
            ),
            name in SECRETS,
        )
        for name, default in zip(Settings.__struct_fields__, Settings.__struct_defaults__, strict=True)
    ]


def _given(environment: Mapping[str, str] | None, dotenv: Path | None) -> dict[str, str]:
    given = {key: value for key, value in dotenv_values(dotenv).items() if value is not None} if dotenv else {}
    return given | dict(os.environ if environment is None else environment)


def _kinds() -> dict[str, Any]:
    return get_type_hints(Settings, include_extras=True)


def _text(name: str, given: Mapping[str, str], faults: list[str]) -> str | None:
    path = given.get(f"{name.upper()}_FILE")
    if path is None:
        return given.get(name.upper())
    try:
        return Path(path).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        faults.append(f"{name.upper()}_FILE names a file that cannot be read")
        return None


def _converted(name: str, text: str, kind: Any, faults: list[str]) -> Any:
    try:
        return msgspec.convert(text.strip(), kind, strict=False)
    except msgspec.ValidationError:
        faults.append(f"{name.upper()} must be {_expected(kind)}")
        return None


def _expected(kind: Any) -> str:
    base, meta = get_args(kind)
    if base is int and meta.ge is not None:
        return f"a whole number from {meta.ge} to {meta.le}"
    return {int: "a whole number", bool: "true or false"}.get(base, "a text")


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == _KEY_BYTES
    except (binascii.Error, ValueError):
        return False


def _url(text: str) -> SplitResult:
    """Split a URL; of what is none (a password with a bracket, say) nothing remains, for the error would repeat it."""
    try:
        return urlsplit(text)
    except ValueError:
        return urlsplit("")


def _is_url(*schemes: str) -> Callable[[str], bool]:
    """Return the check for a URL of one of these schemes; only a file's needs no host."""

    def check(text: str) -> bool:
        parts = _url(text)
        return not text or (parts.scheme in schemes and bool(parts.hostname or parts.scheme == "file"))

    return check


def _is_archive(text: str) -> bool:
    parts = _url(text)
    is_directory = parts.scheme == "file" and not parts.netloc and parts.path not in {"", "/"}
    return not text or is_directory or (parts.scheme == "s3" and bool(parts.netloc))


def _is_relay(text: str) -> bool:
    try:
        return not text or bool(Relay.of(text))
    except RelayUrlError:
        return False


def _names_one(text: str) -> bool:
    """Whether something stands between the commas: of what is not set at all, others tell."""
    return not text or bool(_listed(text))


def _is_some_of(text: str, known: Collection[str]) -> bool:
    return bool(_listed(text)) and set(_listed(text)) <= set(known)


def _is_service_account(text: str) -> bool:
    try:
        return not text or bool(service_account(text))
    except CredentialsError:
        return False


def _are_classes(text: str) -> bool:
    named = [re.fullmatch(r"(\w+) *= *\d{1,5}", part) for part in _listed(text)]
    classes = [found[1] for found in named if found]
    return len(classes) == len(named) == len(set(classes)) and set(classes) <= set(Retention)


def _are_caps(text: str) -> bool:
    try:
        caps_in(text)
    except CapsError:
        return False
    return True


_POSTGRES = ("postgresql", "postgres")
_CHECKS: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("database_url", _is_url(*_POSTGRES), "must be a postgresql:// URL"),
    ("migration_database_url", _is_url(*_POSTGRES), "must be a postgresql:// URL"),
    ("archive_database_url", _is_url(*_POSTGRES), "must be a postgresql:// URL"),
    ("amqp_url", _is_url("amqp", "amqps"), "must be an amqp:// or amqps:// URL"),
    ("jwt_jwks_url", _is_url("https", "http", "file"), "must be an https:// URL"),
    ("ses_endpoint_url", _is_url("https", "http"), "must be an https:// URL"),
    ("twilio_base_url", _is_url("https", "http"), "must be an https:// URL"),
    ("public_url", _is_url("https", "http"), "must be an https:// URL"),
    ("ses_certificate_origin", _is_url("https", "http"), "must be an https:// URL"),
    (
        "smtp_url",
        _is_relay,
        "must be smtp://user:password@host:587 or smtps://user:password@host:465, special characters as %XX",
    ),
    ("fcm_credentials", _is_service_account, "must be the JSON key of a Google service account"),
    ("fcm_base_url", _is_url("https", "http"), "must be an https:// URL"),
    ("twilio_auth_token", _names_one, "must be a token, or two separated by a comma"),
    ("twilio_shared_key", _names_one, "must be a secret, or two separated by a comma"),
    (
        "key_encryption_key",
        lambda text: _names_one(text) and all(map(_is_key, _listed(text))),
        "must be 32 bytes in base64, or two of them",
    ),
    ("identity_key", lambda text: not text or _is_key(text), "must be 32 bytes in base64"),
    ("channels", lambda text: _is_some_of(text, set(Channel)), "must be some of email, sms, push"),
    ("sms_countries", lambda text: _is_some_of(text.upper(), COUNTRIES | {"*"}), "must be ISO 3166 codes, or *"),
    ("spend_caps", _are_caps, "must be caps such as sms=100 USD, sms:GB=50 USD; each once, a country for sms alone"),
    ("archive_url", _is_archive, "must be file:///a/directory or s3://bucket/prefix"),
    ("archive_endpoint_url", _is_url("https", "http"), "must be an https:// URL"),
    (
        "content_days",
        _are_classes,
        "must be days by retention class, such as security=14, marketing=30, standard=90; each once",
    ),
    (
        "allow_unsafe_database",
        lambda text: text.lower() in {"", "true", "false"} or _is_some_of(text.lower(), DURABILITY),
        "must be fsync, full_page_writes, synchronous_commit, or several of them with commas, or true or false",
    ),
    (
        "log_level",
        lambda text: text.lower() in {"debug", "info", "warning", "error"},
        "must be debug, info, warning or error",
    ),
)
