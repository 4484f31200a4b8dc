"""One request for a push, as the fake FCM keeps it."""

from datetime import datetime
from typing import Any

import msgspec


class Push(msgspec.Struct, kw_only=True, tag="request"):
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
    def reports(self) -> bool:
        """Nobody is told by itself what became of a push: the phones report."""
        return False

    def forget(self) -> None:
        """Let go of what is large; where it went and its ids stay."""
        self.headers = {}
        self.body = {"message": {"fid": self.fid, "data": self.data}}

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
