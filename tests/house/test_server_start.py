import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.debian import starts_no_services
from tests.support.servers import main


@pytest.mark.parametrize("before", [None, b"#!/bin/sh\nexit 0\n"])
def test_the_machines_own_policy_on_services_is_as_it_was_after_an_installation(before: bytes | None, tmp_path: Path):
    policy = tmp_path / "policy-rc.d"
    if before is not None:
        policy.write_bytes(before)
    with starts_no_services(policy):
        assert subprocess.run([policy], check=False).returncode == 101
    assert (policy.read_bytes() if policy.exists() else None) == before


def test_the_command_gets_the_servers_that_are_given_and_its_exit_code_is_ours(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("TEST_DATABASE_URL", "postgresql://given")
    monkeypatch.setenv("TEST_AMQP_URL", "amqp://given")
    program = "import os, sys; print(os.environ['TEST_DATABASE_URL']); sys.exit(7)"
    assert main(["run", "--", sys.executable, "-c", program]) == 7
    shown = capfd.readouterr().out
    assert "postgresql://given\n" in shown
    assert "found RabbitMQ" in shown
    assert "started" not in shown
