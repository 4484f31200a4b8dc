"""Secrets whose files change are taken over by the running process; a faulty one changes nothing."""

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from ops.errors import SettingsError
from ops.settings import SECRETS, Settings, changed

# Not a setting of ours, but a file with a secret all the same: the AWS SDK reads it once.
AWS_CREDENTIALS = "aws_shared_credentials_file"
# What could not be taken over is tried again: a database may learn of its new password after us.
AGAIN_AFTER = timedelta(seconds=10)
_EVERY = 1.0
_log = structlog.get_logger("ops.reloading")

# Takes over what the settings say now; whatever it raises, the process goes on with what it had.
Use = Callable[[Settings], Awaitable[None] | None]


class _File:
    """One file: what of it is in use, and what it held when it was looked at last (None = it could not be read)."""

    def __init__(self, path: Path, used: str | None) -> None:
        self.path = path
        self.used = used
        self.seen = used
        self.again_at = 0.0


class Reloading:
    """Looks at the files of settings each second, and hands on the secrets that have changed.

    A new content counts when two looks in a row have found it: a file may be half written, or gone for a moment.
    """

    def __init__(
        self,
        settings: Settings,
        files: Mapping[str, Path],
        registry: CollectorRegistry,
        *,
        again_after: timedelta = AGAIN_AFTER,
    ) -> None:
        self.settings = settings
        self._again_after = again_after.total_seconds()
        self._files = {name: _File(path, _in_use(settings, name, _text(path))) for name, path in files.items()}
        self._uses: dict[str, list[Use]] = defaultdict(list)
        by_setting = ("setting",)
        self._reloads = Counter(
            "notification_settings_reloads",
            "Secrets that were taken over from their changed file.",
            by_setting,
            registry=registry,
        )
        self._failures = Counter(
            "notification_settings_reload_failures",
            "Changed files of secrets that were not taken over; the old value stays in use, and it is tried again.",
            by_setting,
            registry=registry,
        )
        self._restart = Gauge(
            "notification_settings_restart_needed",
            "1 while the file of a setting that is read at the start says something else than what is in use.",
            by_setting,
            registry=registry,
        )

    def on(self, name: str, use: Use) -> None:
        """Hand on a secret when it has changed, in the order of these calls; the first that raises keeps the old."""
        self._uses[name].append(use)

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await self.look()
            await asyncio.sleep(_EVERY)

    async def look(self) -> None:
        """Look at each file once."""
        texts = await asyncio.to_thread(lambda: [_text(file.path) for file in self._files.values()])
        for (name, file), text in zip(self._files.items(), texts, strict=True):
            if text != file.seen:
                file.seen, file.again_at = text, 0.0
            elif text == file.used:
                self._restart.labels(name.upper()).set(0)
            elif time.monotonic() >= file.again_at:
                await self._take_over(name, file, text)

    async def _take_over(self, name: str, file: _File, text: str | None) -> None:
        file.again_at = time.monotonic() + self._again_after
        if not self._can_be_renewed(name):
            self._restart.labels(name.upper()).set(1)
            _log.warning("setting_takes_a_restart", setting=name.upper())
            file.again_at = float("inf")
            return
        try:
            await self._renew(name, text)
        except Exception as exc:  # noqa: BLE001 - whatever is wrong with a new value, the old one serves on
            self._failures.labels(name.upper()).inc()
            fault = str(exc) if isinstance(exc, SettingsError) else type(exc).__name__
            _log.error("setting_not_reloaded", setting=name.upper(), fault=fault)
        else:
            file.used = text
            self._reloads.labels(name.upper()).inc()
            _log.info("setting_reloaded", setting=name.upper())

    def _can_be_renewed(self, name: str) -> bool:
        """Whether there is something to renew: what was not given at the start has no part that would use it."""
        return name == AWS_CREDENTIALS or (name in SECRETS and bool(getattr(self.settings, name)))

    async def _renew(self, name: str, text: str | None) -> None:
        if text is None:
            raise SettingsError([f"{name.upper()}: its file cannot be read"])
        settings = self.settings if name == AWS_CREDENTIALS else changed(self.settings, name, text)
        for use in self._uses[name]:
            if (waiting := use(settings)) is not None:
                await waiting
        self.settings = settings


def aws_file(environment: Mapping[str, str] | None = None) -> dict[str, Path]:
    """Return the file of the AWS SDK's credentials, where one is named."""
    path = (os.environ if environment is None else environment).get(AWS_CREDENTIALS.upper())
    return {AWS_CREDENTIALS: Path(path)} if path else {}


def _text(path: Path) -> str | None:
    try:
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None


def _in_use(settings: Settings, name: str, text: str | None) -> str | None:
    """Return the text where it is what the settings were read from: it may have changed since."""
    if name == AWS_CREDENTIALS or text is None:
        return text
    try:
        return text if getattr(changed(settings, name, text), name) == getattr(settings, name) else None
    except SettingsError:
        return None
