"""A real Prometheus on a port and in a folder of its own, and the example configuration made to fit a test."""

import asyncio
import contextlib
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import httpx
import yaml

from ops import child
from tests.support import ports
from tests.support.service import ROOT, until

MONITORING = ROOT / "monitoring" / "prometheus"
RULES = sorted((MONITORING / "rules").glob("*.yaml"))
_EVERY = "1s"
# A metric of ours in a query or a rule; a name with a colon is what a rule records.
METRIC = re.compile(r"\bnotification_[a-z_]+")
_BESIDE = re.compile(r"_(?:bucket|count|sum)$")


def configuration(folder: Path, targets: Iterable[int]) -> Path:
    """Write the example configuration with these ports as its targets and with alerts that need not wait."""
    written: dict[str, Any] = yaml.safe_load((MONITORING / "prometheus.yml").read_text("utf-8"))
    written["global"] |= {"scrape_interval": _EVERY, "scrape_timeout": _EVERY, "evaluation_interval": _EVERY}
    job = next(job for job in written["scrape_configs"] if job["job_name"] == "notification-ledger")
    written["scrape_configs"] = [job | {"static_configs": [{"targets": [f"127.0.0.1:{port}" for port in targets]}]}]
    (folder / "rules").mkdir()
    for path in RULES:
        (folder / "rules" / path.name).write_text(hurried(path.read_text("utf-8")), "utf-8")
    config = folder / "prometheus.yml"
    config.write_text(yaml.safe_dump(written), "utf-8")
    return config


def hurried(rules: str) -> str:
    """The same rules, without patience: what must hold for minutes holds for a second, a minute's look back is five."""
    return re.sub(r"\[1m\]", "[5s]", re.sub(r"(?m)^(\s+for:) .*$", r"\1 1s", rules))


def named(text: str) -> set[str]:
    """The metrics of ours that a text names, by their families."""
    return {_BESIDE.sub("", name) for name in METRIC.findall(text)}


class Prometheus:
    """Asks a server."""

    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        self.url = url
        self._client = client

    async def ask(self, query: str) -> list[dict[str, Any]]:
        """Return the series of an instant query. Raises for one that cannot be read."""
        answer = await self._get("query", query=query)
        found: list[dict[str, Any]] = answer["result"]
        return found

    async def exported(self) -> set[str]:
        """The families that the targets show, also those without a sample yet."""
        return set(await self._get("metadata"))

    async def alerts(self, *, state: str = "firing") -> dict[str, list[dict[str, Any]]]:
        """Return the alerts of this state, by name."""
        found: dict[str, list[dict[str, Any]]] = {}
        for alert in (await self._get("alerts"))["alerts"]:
            if alert["state"] == state:
                found.setdefault(alert["labels"]["alertname"], []).append(alert)
        return found

    async def _get(self, path: str, **parameters: str) -> Any:
        answer = await self._client.get(f"{self.url}/api/v1/{path}", params=parameters)
        told = answer.json()
        assert told["status"] == "success", told
        return told["data"]


@contextlib.asynccontextmanager
async def running(folder: Path, config: Path) -> AsyncIterator[Prometheus]:
    """Run a server of this configuration while the block runs."""
    address, log = f"127.0.0.1:{ports.free()}", folder / "prometheus.log"
    popen = _start(config, address, log)
    try:
        await until(lambda: b"ready to receive web requests" in log.read_bytes() or popen.poll() is not None, "it")
        assert popen.poll() is None, log.read_text()[-3000:]
        async with httpx.AsyncClient(timeout=30) as client:
            yield Prometheus(f"http://{address}", client)
    finally:
        popen.terminate()
        await asyncio.to_thread(popen.wait)


def _start(config: Path, address: str, log: Path) -> subprocess.Popen[bytes]:
    data = config.parent / "data"
    with log.open("wb") as output:
        return subprocess.Popen(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={data}",
                f"--web.listen-address={address}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=child.before_exec(ends_by=signal.SIGKILL),  # noqa: PLW1509 - binds its life to ours
        )
