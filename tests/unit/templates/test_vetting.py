import asyncio
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from templates.catalogue import load
from templates.drafts import Vetted
from templates.vetting import Vetter
from tests.support.service import until
from tests.unit.templates.drafts import draft, shipped

# Each would take for ever, or all memory; the lint sees the first ones, and only being ended stops the last ones.
BOMBS = {
    "power": "{{ 10**10**8 }}",
    "product": "{{ 'x' * 10000000000 }}",
    "ranges": "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}",
    "escape": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "itself": '{% include "note/en/body.txt" %}',
    "format": "{{ '%1000000000d' | format(1) }}",
    "padding": "{{ orderId.center(10000000000) }}",
    "parentheses": "{{ " + "(" * 50_000 + "1" + ")" * 50_000 + " }}",
    "doubling": "{% set x = orderId %}" + "{% set x = x ~ x %}" * 60 + "{{ x }}",
    "loops": "x" + "{% for a in items %}" * 5 + "{% if count > 9 %}y{% endif %}" + "{% endfor %}" * 5,
}


def spent() -> float:
    """Seconds of processor time that processes took which we started and which are gone."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def children() -> set[str]:
    return {pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


def environments(others: set[str]) -> list[bytes]:
    """The environments of the processes that have become one that vets."""
    started = [Path("/proc", pid) for pid in children() - others]
    return [(at / "environ").read_bytes() for at in started if b"vetting_child" in (at / "cmdline").read_bytes()]


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
async def test_a_bomb_is_refused_and_takes_a_second_at_most(bomb: str):
    before, others = spent(), children()
    vetted = await Vetter().vet(draft({"en/body.txt": bomb}))
    assert vetted.faults
    # The kernel looks at the clock some times a second.
    assert spent() - before < 2
    assert children() <= others


def test_the_kernel_ends_what_computes_for_ever():
    written = msgspec.json.encode(draft({"en/body.txt": BOMBS["loops"]}))
    command = [sys.executable, "-m", "templates.vetting_child"]
    done = subprocess.run(command, input=written, capture_output=True, check=False)
    assert done.returncode == -signal.SIGPROF
    assert done.stdout == b'"en, email"\n'


async def test_the_event_loop_goes_on_while_a_bomb_burns():
    longest, last = 0.0, time.thread_time()

    async def tick() -> None:
        nonlocal longest, last
        while True:
            await asyncio.sleep(0.005)
            longest, last = max(longest, time.thread_time() - last), time.thread_time()

    ticking = asyncio.create_task(tick())
    vetter = Vetter()
    found = await asyncio.gather(*(vetter.vet(draft({"en/body.txt": BOMBS["loops"]})) for _ in range(2)))
    ticking.cancel()
    assert [[fault.rule for fault in vetted.faults] for vetted in found] == [["too-costly"]] * 2
    # Of processor time, so that a busy machine cannot be mistaken for a loop that is held up.
    assert longest < 0.1


async def test_what_is_ended_says_what_it_was_at():
    vetted = await Vetter().vet(draft({"en/body.txt": BOMBS["loops"]}))
    assert [str(fault) for fault in vetted.faults] == [
        "en, email: takes more time or memory than a template may (too-costly)"
    ]


async def test_what_takes_all_memory_is_told_by_its_file():
    vetted = await Vetter().vet(draft({"en/body.txt": BOMBS["doubling"]}))
    assert [str(fault) for fault in vetted.faults] == [
        "en/body.txt:1: fails with data as they are declared (too-costly)"
    ]


@pytest.mark.parametrize("started", [False, True])
async def test_a_caller_who_goes_takes_the_process_along(*, started: bool):
    others = children()
    vetting = asyncio.create_task(Vetter().vet(draft({"en/body.txt": BOMBS["loops"]})))
    await until(lambda: bool(environments(others)) if started else not children() <= others, "the process")
    vetting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await vetting
    assert children() <= others


async def test_no_more_processes_run_than_there_are_places():
    others, most = children(), 0
    vetter = Vetter(at_once=2)
    waiting = asyncio.gather(*(vetter.vet(draft()) for _ in range(5)))
    while not waiting.done():
        most = max(most, len(children() - others))
        await asyncio.sleep(0.001)
    assert most == 2
    assert not any(vetted.faults for vetted in await waiting)


async def test_the_process_knows_nothing_of_our_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KEY_ENCRYPTION_KEY", "secret")
    others = children()
    vetting = asyncio.create_task(Vetter().vet(draft({"en/body.txt": BOMBS["loops"]})))
    await until(lambda: bool(environments(others)), "the process")
    assert environments(others) == [b""]
    await vetting


async def test_what_is_in_order_comes_back_finished_with_a_look_at_it():
    kind = load().kinds["order_confirmed"]
    vetted = await Vetter().vet(shipped(kind))
    assert isinstance(vetted, Vetted)
    assert vetted.faults == []
    assert "en/body.html" in vetted.files
    assert "ORDER-ID-1" in str([one.mail or one.sms for one in vetted.previews])
