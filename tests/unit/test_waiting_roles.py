"""What a process hears of: of more it would only wake up in vain, of less it would wait for its next look."""

import pytest

from ledger.signals import AGENDA, FACTS, TEMPLATES
from ops.process import waits_for


@pytest.mark.parametrize(
    ("roles", "heard"),
    [
        (["ingest"], {TEMPLATES}),
        (["deliver"], {TEMPLATES, AGENDA}),
        (["project"], {TEMPLATES, FACTS}),
        (["api"], {TEMPLATES, FACTS}),
        (["maintain"], {TEMPLATES}),
        (["api", "ingest", "deliver", "project", "maintain"], {TEMPLATES, AGENDA, FACTS}),
    ],
)
def test_a_process_listens_for_what_its_roles_wait_for(roles: list[str], heard: set[str]):
    assert waits_for(roles) == heard
