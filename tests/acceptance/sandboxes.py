"""A sandbox as a process: its ports, its inboxes, and who asks it."""

import contextlib
import os
import socket
from pathlib import Path

import httpx
import msgspec

from providers.fakes.ses_log import Request
from providers.fakes.twilio_log import Request as SmsRequest
from tests.support import ports
from tests.support.service import Process, Service


class Sandbox:
    """One sandbox: its folder, its ports, and the process that runs it just now."""

    def __init__(self, service: Service, data: Path) -> None:
        self.data = data
        self.port = ports.free_in_a_row(6)
        self.process: Process
        self._service = service
        self._token = ""

    async def start(self) -> None:
        self.process = self._service.launch("sandbox", DATA=str(self.data), PORT=str(self.port), DEMO="0")
        await self.process.says(f"ready http://127.0.0.1:{self.port}")
        said = {word: rest for word, _, rest in (line.partition(" ") for line in self.process.log().splitlines())}
        self._token = said["token"]
        assert said["inbox"] == f"{self.inbox}/inbox"
        assert said["sms"] == f"{self.sms_inbox}/inbox"
        assert said["phones"] == f"http://127.0.0.1:{self.port + 5}/inbox"
        assert said["console"] == f"http://127.0.0.1:{self.port}/console/"

    @property
    def inbox(self) -> str:
        return f"http://127.0.0.1:{self.port + 1}"

    @property
    def sms_inbox(self) -> str:
        return f"http://127.0.0.1:{self.port + 4}"

    def client(self) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {self._token}"}
        return httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", headers=headers, timeout=60)

    def requests(self) -> list[Request]:
        return msgspec.json.decode(httpx.get(f"{self.inbox}/requests", timeout=60).content, type=list[Request])

    def sms(self) -> list[SmsRequest]:
        return msgspec.json.decode(httpx.get(f"{self.sms_inbox}/requests", timeout=60).content, type=list[SmsRequest])

    def sms_page(self) -> str:
        return httpx.get(f"{self.sms_inbox}/inbox", timeout=60).text

    def page(self) -> str:
        return httpx.get(f"{self.inbox}/inbox", timeout=60).text

    def slow_down(self) -> None:
        """Have the provider take every mail at once, and answer a second later."""
        httpx.post(f"{self.inbox}/control", json={"delay": "PT1S"}, timeout=60).raise_for_status()

    def left_behind(self) -> list[str]:
        """The command lines of processes that work on this sandbox's folder."""
        lines: list[bytes] = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            # A process may end between being listed and being looked at.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                lines.append(path.read_bytes())
        return [line.decode(errors="replace") for line in lines if os.fsencode(self.data) in line]

    def ports_are_free(self) -> bool:
        for port in range(self.port, self.port + 6):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return False
        return True
