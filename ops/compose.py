"""What the containers of compose.yaml are given as files: secrets of their own, drawn before the first start.

Usage: python -m ops.compose FOLDER
"""

import json
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

from ops.embedded import APPLICATION, DATABASE, OWNER
from ops.secrets import secrets_in
from providers.fakes.twilio import TOKEN

BROKER_USER = "ledger"
LAST = "jwks.json"
ROLES = f"""\
CREATE ROLE {OWNER} LOGIN PASSWORD '{{owner}}';
CREATE ROLE {APPLICATION} LOGIN PASSWORD '{{application}}';
CREATE DATABASE {DATABASE} OWNER {OWNER};
"""


def draw(folder: Path) -> bool:
    """Write the files, once and for all; returns whether they are new.

    Their folder is its owner's alone. They themselves can be read by anyone: in a container each is seen by itself,
    by a user whom the machine outside does not know.
    """
    if (folder / LAST).exists():
        return False
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    for name, text in _files(folder):
        (folder / name).write_text(text)
        (folder / name).chmod(0o644)
    return True


def _files(folder: Path) -> Iterator[tuple[str, str]]:
    admin, owner, application, broker = (secrets.token_hex(24) for _ in range(4))
    yield "postgres-password", admin
    yield "roles.sql", ROLES.format(owner=owner, application=application)
    yield "migration-database-url", f"postgresql://{OWNER}:{owner}@postgres/{DATABASE}"
    yield "database-url", f"postgresql://{APPLICATION}:{application}@postgres/{DATABASE}"
    yield "rabbitmq.conf", f"default_user = {BROKER_USER}\ndefault_pass = {broker}\n"
    yield "amqp-url", f"amqp://{BROKER_USER}:{broker}@rabbitmq/"
    yield "grafana-password", secrets.token_hex(12)
    yield "twilio-auth-token", TOKEN
    drawn = secrets_in(folder)
    yield "key-encryption-key", drawn.key_encryption_key
    yield LAST, json.dumps(drawn.public_keys())


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
