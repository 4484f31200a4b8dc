"""What stops the service from starting. Each docstring is what an operator reads."""

from collections.abc import Sequence


class OperationError(Exception):
    """The command cannot do what it was asked; the message is one clear line."""


class SettingsError(OperationError):
    """Some settings are missing or wrong. All of them are named at once, none with its value."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("settings: " + "; ".join(faults))
        self.faults = tuple(faults)


class NotReadyError(OperationError):
    """The database is not what this release needs: run `notification-ledger migrate`, or look at DATABASE_URL."""
