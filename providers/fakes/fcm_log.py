"""The request log of the fake FCM: every push that came in, in order; the oracle for "never sent twice"."""

from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import msgspec


class Push(msgspec.Struct, kw_only=True):
    """One request for a push. `status` is what it was answered with; 0 = it never was.

    `number` counts from 1 in the order of arrival; `connection` is the other end's address and port; `body` is the
    whole request.
    """

    number: int
    at: datetime
    connection: str
    project: str
    status: int
    code: str
    name: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def accepted(self) -> bool:
        """Whether the push went out, answered or not."""
        return self.status in {0, 200}

    @property
    def message_id(self) -> str:
        """The name that it was taken by."""
        return self.name

    @property
    def message(self) -> dict[str, Any]:
        message = self.body.get("message")
        return message if isinstance(message, dict) else {}

    @property
    def fid(self) -> str:
        return str(self.message.get("fid", ""))

    @property
    def data(self) -> dict[str, str]:
        """What the app gets beside the words: ids, link and receipt."""
        data = self.message.get("data")
        return {str(name): str(value) for name, value in data.items()} if isinstance(data, dict) else {}

    @property
    def said(self) -> dict[str, str]:
        said = self.message.get("notification")
        return {str(name): str(value) for name, value in said.items()} if isinstance(said, dict) else {}

    @property
    def tags(self) -> dict[str, str]:
        """The ids of the notification and the attempt, by the names that the other fakes give them."""
        return {"notification": self.data.get("notification_id", ""), "attempt": self.data.get("attempt_id", "")}

    @property
    def tag(self) -> str:
        """What a later push must carry on Android to take this one's place on the device; itself where it has none."""
        android = self.message.get("android")
        shown = android.get("notification") if isinstance(android, dict) else None
        tag = shown.get("tag") if isinstance(shown, dict) else None
        return tag if isinstance(tag, str) and tag else f"number {self.number}"


class PushLog:
    """The pushes, in memory and, with a path, in a file of JSON lines that outlives the process."""

    def __init__(self, path: Path | None = None) -> None:
        self.requests: list[Push] = []
        self._file: BinaryIO | None = None
        if path is not None:
            self._load(path)
            self._file = path.open("ab", buffering=0)

    def add(self, push: Push) -> None:
        if self._file is not None:
            self._file.write(msgspec.json.encode(push) + b"\n")
        self.requests.append(push)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _load(self, path: Path) -> None:
        if not path.exists():
            return
        whole, _, torn = path.read_bytes().rpartition(b"\n")
        if torn:
            # The process was killed in the middle of a line; nobody was answered for it.
            path.write_bytes(whole + b"\n" if whole else b"")
        self.requests += msgspec.json.Decoder(Push).decode_lines(whole)
