"""CLI processes behind their keepers: opened, frozen, killed with their whole trees."""

import os
import resource
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import trio

from maxd.workers.faults import WorkerDied, WorkerStartFailed
from maxd.workers.process import Killed, Process, open_process, sweep_marked
from maxd.workers.tree import MARKER, Hold, make_environment

HOSTILE = Path(__file__).parents[1] / "fakes" / "hostile.py"
VISIBLE = ["plain", "deaf", "stopped", "group", "session", "double_fork"]
"""The shapes that a search without a keeper must find, too."""
SHAPES = [*VISIBLE, "storm", "hopper", "scrubbed", "pipe", "leaver", "mixture"]
PROOF = Killed.GONE if sys.platform == "linux" else Killed.SEARCHED
LINUX_ONLY = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture
def token() -> str:
    """Something that only processes of this test carry."""
    return f"token-{uuid.uuid4().hex}"


@pytest.fixture(autouse=True)
def nothing_left(token: str) -> Iterator[None]:
    """Around the whole run of a test: no descriptor, child, zombie or descendant is left."""
    descriptors = open_descriptors()
    children = psutil.Process().children()
    yield
    assert open_descriptors() == descriptors
    assert psutil.Process().children() == children
    assert survivors(token) == []


def open_descriptors() -> int:
    return psutil.Process().num_fds()


def survivors(token: str) -> list[int]:
    """The processes with `token` in their command line or environment; no zombies."""
    found = []
    for process in psutil.process_iter():
        try:
            traces = [*process.cmdline(), *process.environ().values()]
        except psutil.Error:
            continue
        if any(token in trace for trace in traces):
            found.append(process.pid)
    return found


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Ask, for what another process does and nobody tells; fails after `seconds`."""
    with trio.fail_after(seconds):
        while not condition():
            await trio.lowlevel.checkpoint()


async def open_here(*argv: str, token: str) -> Process:
    env = make_environment(os.environ | {"TOKEN": token}, f"{token}/1")
    return await open_process(argv, env=env, cwd="/", marker=f"{token}/1")


async def open_hostile(shape: str, token: str) -> Process:
    process = await open_here(sys.executable, "-S", str(HOSTILE), shape, token, token=token)
    with trio.fail_after(20):
        assert await receive_line(process) == b"ready\n"
    return process


async def receive_line(process: Process) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        chunk = await process.stdout.receive_some(1)
        assert chunk
        line += chunk
    return line


def keeper_of(process: Process) -> psutil.Process:
    keeper = psutil.Process(process.pid).parent()
    assert keeper is not None
    return keeper


@contextmanager
def bystander() -> Iterator[None]:
    """Another child of ours, in a session of its own like a keeper; it must survive."""
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
        try:
            yield
            assert process.poll() is None
        finally:
            process.kill()


@contextmanager
def stand_in_daemon(program: str) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that runs `program` in the daemon's place and has printed `up`."""
    with subprocess.Popen(
        [sys.executable, "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(program.encode())
            process.stdin.close()
            assert process.stdout.readline() == b"up\n"
            yield process
        finally:
            process.kill()


def test_the_environment_of_a_tree() -> None:
    base = {
        "HOME": "/home/someone",
        "MAXD_API_KEY": "secret",
        "TELEGRAM_BOT_TOKEN": "secret",
        MARKER: "outer/1",
        "CLAUDECODE": "1",
        "CLAUDE_CODE_ENTRYPOINT": "cli",
        "CLAUDE_CODE_OAUTH_TOKEN": "token",
    }
    assert make_environment(base, "instance/7") == {
        "HOME": "/home/someone",
        "CLAUDE_CODE_OAUTH_TOKEN": "token",
        "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
        MARKER: "instance/7",
    }


async def test_a_process_talks_and_exits(token: str, tmp_path: Path) -> None:
    program = f"pwd; echo ${MARKER} >&2; read line; echo got $line; exit 3"
    process = await open_process(
        ["/bin/sh", "-c", program], env={"TOKEN": token}, cwd=tmp_path, marker=f"{token}/1"
    )
    assert await receive_line(process) == f"{tmp_path}\n".encode()
    assert await process.stderr.receive_some() == f"{token}/1\n".encode()
    await process.stdin.send_all(b"this\n")
    assert await receive_line(process) == b"got this\n"
    assert await process.stdout.receive_some() == b""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(process.wait)
        nursery.start_soon(process.wait)
    assert await process.wait() == 3
    assert await process.kill() is PROOF
    assert await process.wait() == 3
    await process.aclose()
    await process.aclose()


async def test_a_cancelled_waiter_leaves_the_others_waiting(token: str) -> None:
    process = await open_here("cat", token=token)
    statuses = []

    async def wait() -> None:
        statuses.append(await process.wait())

    async with trio.open_nursery() as nursery:
        with trio.move_on_after(0.01):
            nursery.start_soon(wait)
            await process.wait()
        await process.stdin.aclose()
    assert statuses == [0]
    await process.aclose()


@pytest.mark.parametrize("shape", SHAPES)
async def test_no_shape_survives_a_kill(shape: str, token: str) -> None:
    with bystander():
        for _ in range(2):
            process = await open_hostile(shape, token)
            assert await process.kill() is PROOF
            assert survivors(token) == []
            assert await process.kill() is PROOF
            await process.aclose()


@pytest.mark.parametrize("shape", VISIBLE)
async def test_without_its_keeper_a_tree_is_searched(shape: str, token: str) -> None:
    with bystander():
        process = await open_hostile(shape, token)
        keeper_of(process).kill()
        with pytest.raises(WorkerDied):
            await process.wait()
        assert await process.kill() is Killed.SEARCHED
        assert survivors(token) == []
        await process.aclose()


async def test_a_stopped_keeper_does_its_work(token: str) -> None:
    process = await open_hostile("session", token)
    keeper_of(process).suspend()
    assert await process.kill() is PROOF
    await process.aclose()


async def test_many_at_once(token: str) -> None:
    processes: list[Process] = []

    async def open_one() -> None:
        processes.append(await open_here("cat", token=token))

    with bystander():
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(open_one)
        assert len({process.pid for process in processes}) == 20
        # Each has its own pipes and nobody else's: the end of one's stdin is the end of it.
        await processes[0].stdin.aclose()
        assert await processes[0].wait() == 0
        async with trio.open_nursery() as nursery:
            for process in processes:
                nursery.start_soon(process.aclose)


async def test_freeze_and_thaw(token: str) -> None:
    process = await open_here("cat", token=token)
    seen = psutil.Process(process.pid)
    process.freeze_nowait()
    process.freeze_nowait()
    await until(lambda: seen.status() == psutil.STATUS_STOPPED)
    await process.stdin.send_all(b"cold\n")
    process.thaw_nowait()
    process.thaw_nowait()
    assert await receive_line(process) == b"cold\n"
    process.freeze_nowait()
    assert await process.kill() is PROOF
    process.freeze_nowait()
    process.thaw_nowait()
    await process.aclose()
    process.freeze_nowait()


@pytest.mark.parametrize("frozen", [False, True])
async def test_grace_lets_a_process_end_by_itself(frozen: bool, token: str) -> None:
    process = await open_here("cat", token=token)
    if frozen:
        process.freeze_nowait()
    assert await process.kill(grace=2) is PROOF
    assert await process.wait() == 0
    await process.aclose()


async def test_grace_ends(token: str) -> None:
    process = await open_here("sleep", "60", token=token)
    assert await process.kill(grace=0.01) is PROOF
    assert await process.wait() == -signal.SIGKILL
    await process.aclose()


async def test_a_kill_without_grace_cuts_one_with_grace_short(token: str) -> None:
    process = await open_here("sleep", "60", token=token)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(process.kill, 2.5)
        await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(2):
            assert await process.kill() is PROOF
    await process.aclose()


async def test_a_kill_is_not_cancelled(token: str) -> None:
    process = await open_hostile("plain", token)
    with trio.CancelScope() as scope:
        scope.cancel()
        assert await process.kill() is PROOF
        await process.aclose()
    assert survivors(token) == []


async def test_a_kill_frees_a_blocked_writer_and_a_reader(token: str) -> None:
    process = await open_here("sleep", "60", token=token)

    async def write() -> None:
        with pytest.raises(trio.BrokenResourceError):
            await process.stdin.send_all(bytes(1_000_000))

    async def read() -> None:
        assert await process.stdout.receive_some() == b""

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        await process.kill()
    await process.aclose()


@pytest.mark.parametrize("reason", ["missing", "not executable", "wrong format", "no directory"])
async def test_what_cannot_be_executed(reason: str, token: str, tmp_path: Path) -> None:
    program = tmp_path / "program"
    if reason == "missing":
        program = tmp_path / "nothing"
    else:
        program.write_bytes(b"no program")
        program.chmod(0o755 if reason == "wrong format" else 0o644)
    cwd = tmp_path / "nowhere" if reason == "no directory" else tmp_path
    with pytest.raises(WorkerStartFailed):
        await open_process([str(program)], env={"TOKEN": token}, cwd=cwd, marker=f"{token}/1")


@pytest.mark.parametrize("spare", range(0, 14))
async def test_without_descriptors_nothing_is_left_behind(spare: int, token: str) -> None:
    before = open_descriptors()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/dev/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + spare, limits[1]))
    process = None
    try:
        process = await open_here("cat", token=token)
    except WorkerStartFailed:
        assert spare < 13  # With so many it works.
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        if process is not None:
            await process.aclose()
    assert open_descriptors() == before


@pytest.mark.parametrize("milliseconds", [0, 1, 3, 6, 10, 14, 18, 25])
async def test_a_cancelled_open_leaves_nothing_behind(milliseconds: int, token: str) -> None:
    process = None
    with trio.move_on_after(milliseconds / 1000):
        process = await open_here("sleep", "60", token=token)
    if process is not None:
        await process.aclose()
    assert survivors(token) == []


@LINUX_ONLY
async def test_the_death_of_the_daemon_is_the_death_of_its_workers(token: str) -> None:
    daemon = f"""
import sys, trio
from maxd.workers.process import open_process
async def main():
    processes = []
    for shape in ("mixture", "stopped", "scrubbed"):
        argv = [sys.executable, "-S", {str(HOSTILE)!r}, shape, {token!r}]
        process = await open_process(argv, env={{}}, cwd="/", marker={token!r} + "/1")
        assert await process.stdout.receive_some() == b"ready\\n"
        process.freeze_nowait()
        processes.append(process)
    print("up", flush=True)
    await trio.sleep_forever()
trio.run(main)
"""
    with bystander(), stand_in_daemon(daemon) as process:
        assert len(survivors(token)) > 20
        process.kill()
        await until(lambda: survivors(token) == [], seconds=2)


async def test_sweeps_what_an_earlier_run_left_behind(token: str) -> None:
    def left_behind(instance: str) -> subprocess.Popen[bytes]:
        env = os.environ | {MARKER: f"{instance}/3", "TOKEN": token}
        return subprocess.Popen(["sleep", "60"], env=env, start_new_session=True)

    with bystander(), left_behind(token) as ours, left_behind(f"{token}2") as theirs:
        kept = await open_hostile("scrubbed", token)
        try:
            found = await sweep_marked(token)
            assert {ours.pid, kept.pid} <= set(found)
            assert ours.poll() is not None
            assert theirs.poll() is None
            assert await kept.kill() is PROOF
        finally:
            theirs.kill()
            ours.kill()
            await kept.aclose()
    assert await sweep_marked(token) == []


def test_a_hold_never_signals_a_stranger() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        hold = Hold(process.pid)
        assert hold.is_alive()
        assert hold.parent() == os.getpid()
        process.kill()
    assert not hold.send(0)
    assert not hold.is_alive()
    hold.close()
    hold.close()
    assert not hold.send(signal.SIGKILL)
    with pytest.raises(ProcessLookupError):
        Hold(process.pid)
