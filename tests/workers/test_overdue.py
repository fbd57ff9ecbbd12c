"""Turns of real CLIs that are silent: those that work are let be, those that hang are ended."""

import math
import shlex
import socket
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import psutil
import pytest
import trio

from maxd.workers.faults import Fault, TurnTimedOut
from maxd.workers.loopback import Reply
from maxd.workers.profiles import AGENT, Profile
from maxd.workers.turn import Finished, ToolStarted
from tests.workers.rig import RealRig, Rig, run_turn, start_worker, survivors, turn

LIMIT = 3.0
PROFILE = msgspec.structs.replace(AGENT, activity_minutes=LIMIT / 60)
ASKED = turn(("user", "go"), profile="agent")
HOSTILE = Path(__file__).parents[1] / "fakes" / "hostile.py"
PYTHON = shlex.quote(sys.executable)
# So long in all that the limit passes twice.
WORKS = 2.5 * LIMIT
BUSY = f"import time; end = time.time() + {WORKS}\nwhile time.time() < end: pass"
WRITES = """
import os, sys, time
end = time.time() + float(sys.argv[1])
with open("out", "wb", buffering=0) as file:
    while time.time() < end:
        file.write(bytes(2000))
        time.sleep(0.05)
"""


@pytest.fixture
def real(rig: Rig) -> RealRig:
    if not isinstance(rig, RealRig):
        pytest.skip("the fake CLI runs no tools")
    return rig


def busy(prefix: str = "") -> str:
    return f"{prefix}{PYTHON} -c {shlex.quote(BUSY)}"


def write(seconds: float) -> str:
    return f"{PYTHON} -c {shlex.quote(WRITES)} {seconds}"


@pytest.mark.parametrize(
    "command",
    [
        busy(),
        # The tool's own process sleeps; who works has left its session and its parent.
        f"({busy('setsid ')} >/dev/null 2>&1 &) ; sleep {WORKS}",
        # Hundreds of processes, none of which lives for long.
        f"end=$((SECONDS + 8)); while [ $SECONDS -lt $end ]; do {PYTHON} -S -c ''; done",
        write(WORKS),
    ],
    ids=["itself", "daemon", "many", "writes"],
)
async def test_a_silent_tool_that_works_is_let_be(real: RealRig, command: str) -> None:
    real.use_tool("Bash", command)
    started = trio.current_time()
    outcome = await run_turn(real, ASKED, PROFILE)
    assert outcome.finished.stop_reason == "end_turn"
    assert outcome.text == "done"
    assert trio.current_time() - started > 2 * LIMIT


@contextmanager
def deaf_server() -> Iterator[int]:
    """A port that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


STUCK = {
    "stopped": "kill -STOP $$",
    "socket": f"{PYTHON} -c 'import socket; socket.create_connection((None, PORT)).recv(1)'",
    "lock": "exec 9>lock; flock 9; flock lock true",
    "asks": "mkdir asked; until mkdir asked 2>/dev/null; do sleep 1; done",
    "sleeps": "sleep 100",
}


@pytest.mark.parametrize("kind", STUCK)
async def test_a_tool_that_hangs_is_ended_with_all_its_children(real: RealRig, kind: str) -> None:
    token = f"token-{uuid.uuid4().hex}"
    with deaf_server() as port:
        shapes = ("deaf", "session", "double_fork")
        hostile = [f"{PYTHON} -I -S {HOSTILE} {shape} {token} &" for shape in shapes]
        # After 3 s 2.1.330 says of a tool that it runs. Some time later it is written down when,
        # and then nothing happens any more.
        stuck = STUCK[kind].replace("PORT", str(port))
        real.use_tool("Bash", " ".join([*hostile, f"{write(4)}; date +%s.%N >began;", stuck]))
        fault, told, gone = await until_ended(real, PROFILE)
    began = float((real.home / "began").read_text())
    assert type(fault) is TurnTimedOut
    assert "3 seconds" in fault.message
    assert LIMIT - 1 < told - began < LIMIT + 2
    assert gone - began < LIMIT + 2
    assert survivors(token) == []


async def until_ended(real: RealRig, profile: Profile) -> tuple[Fault | None, float, float]:
    """The fault of a turn, when it was told, and when its tree was gone."""
    told, fault = 0.0, None
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            life = await start_worker(nursery, real.launch(profile))
            async with life.assign(ASKED) as inbox:
                async for piece in inbox:
                    if isinstance(piece, Fault):
                        told, fault = time.time(), piece
            ended = await life.wait_ended()
    assert not ended.stuck
    return fault, told, time.time()


async def test_a_cli_that_is_stopped_is_ended(real: RealRig) -> None:
    # Not `sleep`: 2.1.330 refuses to run that alone.
    real.use_tool("Bash", "tail -f /dev/null")
    stopped = told = math.inf
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            life = await start_worker(nursery, real.launch(PROFILE))
            async with life.assign(ASKED) as inbox:
                async for piece in inbox:
                    if isinstance(piece, Fault):
                        told = trio.current_time()
                    elif any(isinstance(event, ToolStarted) for event in piece):
                        psutil.Process(life.worker.pid).suspend()
                        stopped = trio.current_time()
            assert type((await life.wait_ended()).fault) is TurnTimedOut
    assert told - stopped < LIMIT + 2


@pytest.mark.parametrize("stall", [-1, 0, 2])
async def test_a_service_that_goes_silent_is_no_progress(real: RealRig, stall: int) -> None:
    real.replies = [Reply(text="one two three four", stall=stall)]
    started = time.time()
    fault, told, _ = await until_ended(real, PROFILE)
    assert type(fault) is TurnTimedOut
    assert told - started > LIMIT
    # It is not asked again: nobody knows what it has done.
    assert real.model is not None
    assert real.model.count == 1


async def test_the_hard_limit_ends_a_turn_that_works(real: RealRig) -> None:
    real.use_tool("Bash", busy())
    profile = msgspec.structs.replace(AGENT, turn_minutes=LIMIT / 60)
    fault, _, _ = await until_ended(real, profile)
    assert type(fault) is TurnTimedOut
    assert "more than 3 seconds" in fault.message


async def test_an_idle_worker_is_not_timed(real: RealRig) -> None:
    """It is given its next turn after the limit has passed twice."""
    short = msgspec.structs.replace(AGENT, activity_minutes=1 / 60)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            life = await start_worker(nursery, real.launch(short))
            # The limit is kept in real time: it counts what a process does.
            await trio.sleep(2)
            for _ in range(2):
                async with life.assign(ASKED) as inbox:
                    events = [event async for piece in inbox for event in piece]
                assert isinstance(events[-1], Finished)
                await trio.sleep(2)
            life.worker.kill_nowait()
            assert (await life.wait_ended()).fault is None
