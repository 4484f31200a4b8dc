"""Whatever is asked, of any operation that the document describes: the answer is one that it describes, too."""

import asyncio
import itertools
import os
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any
from uuid import uuid4

import hypothesis
import pytest
import requests
import schemathesis
from hypothesis import strategies as st
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok

from api.auth import Scope
from tests.integration.api.conftest import EVERYTHING, Service
from tests.integration.api.things import made
from tests.integration.api.tokens import token
from tests.support.postgres import Database

# A long run by hand, which is another one each time: TEST_FUZZ_EXAMPLES=1000. That of the suite is always the same.
EXAMPLES = os.environ.get("TEST_FUZZ_EXAMPLES")
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
SETTINGS = hypothesis.settings(
    max_examples=int(EXAMPLES or 5),
    derandomize=EXAMPLES is None,
    database=None,
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    suppress_health_check=list(hypothesis.HealthCheck),
)
Known = Mapping[str, list[str]]
Operation = schemathesis.APIOperation[Any, Any, Any, Any]
Case = schemathesis.Case[Any]
# What no document describes: bodies that are no JSON, and those of other kinds than their head says.
BODIES = st.binary(max_size=200) | st.sampled_from(
    [b"null", b"[[", b'{"a":1e999}', b'{"\\ud800":"\\u0000"}', b"a=%zz&a"]
)
KINDS = ["application/json", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "?"]


@pytest.fixture
async def known(service: Service, database: Database) -> AsyncIterator[Known]:
    """What is there to be found, by the names that it has in paths: ids drawn by chance would find nothing."""
    async with made(service, database) as things:
        notifications = [str(things.done), str(things.waiting), str(uuid4())]
        yield {name: [there] for name, there in things.by_name.items()} | {"notification_id": notifications}


async def test_every_answer_is_one_that_the_document_describes(service: Service, known: Known):
    document = (await service.client.get("/schema")).json()
    found = await asyncio.to_thread(faults, service.url, document, known)
    assert not found, "\n\n".join(found)


def faults(url: str, document: dict[str, Any], known: Known) -> list[str]:
    """Ask each operation; return what was answered that is not described."""
    found = schemathesis.openapi.from_dict(document).get_all_operations()
    operations = [each.ok() for each in found if isinstance(each, Ok)]
    with requests.Session() as session:
        return [fault for operation in operations for fault in faults_of(operation, known, session, url)]


def faults_of(operation: Operation, known: Known, session: requests.Session, url: str) -> Iterator[str]:
    """Ask one operation, as who may do everything and, by turns, as nobody and as who may do one thing."""
    everything = bearing(EVERYTHING)
    lesser = itertools.cycle([{}, *map(bearing, Scope)])

    def ask(case: Case) -> None:
        for headers in (next(lesser), everything):
            case.call_and_validate(base_url=url, session=session, headers=headers, checks=CHECKS, timeout=60)

    def ask_in_bytes(case: Case, body: bytes, kind: str) -> None:
        headers = {**everything, "Content-Type": kind}
        reply = session.request(case.method, url + case.formatted_path, data=body, headers=headers, timeout=60)
        case.validate_response(reply, checks=CHECKS)

    right, wrong = (cases(operation, mode, known) for mode in schemathesis.GenerationMode)
    tries = [hypothesis.given(case=right)(ask), hypothesis.given(case=wrong)(ask)]
    if operation.method != "get":
        tries.append(hypothesis.given(case=right, body=BODIES, kind=st.sampled_from(KINDS))(ask_in_bytes))
    for each in tries:
        try:
            SETTINGS(each)()
        except hypothesis.errors.Unsatisfiable:
            # Nothing can be wrong with what an operation takes that takes nothing.
            continue
        except FailureGroup as exc:
            yield f"{operation.label}: {exc}"


def cases(operation: Operation, mode: schemathesis.GenerationMode, known: Known) -> st.SearchStrategy[Case]:
    """Return what may be asked of an operation: of what is there, and of anything else."""
    names = [name for name in re.findall(r"{(\w+)}", operation.path) if name in known]
    of_any = operation.as_strategy(generation_mode=mode)
    if not names:
        return of_any
    ids = st.fixed_dictionaries({name: st.sampled_from(known[name]) for name in names})
    return of_any | ids.flatmap(lambda given: operation.as_strategy(generation_mode=mode, path_parameters=given))


def bearing(scope: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(scope)}"}
