"""Workers whose CLI crashes, babbles, hangs or leaves things behind: it is the fake CLI."""

import os
import uuid
from pathlib import Path

import psutil
import pytest
import trio
import trio.testing

from maxd.workers.faults import (
    Fault,
    ProtocolBroken,
    UpstreamUnreachable,
    WorkerDied,
    WorkerStartFailed,
)
from maxd.workers.profiles import CHAT
from maxd.workers.turn import (
    AccountLimit,
    Finished,
    Retrying,
    RoundBroken,
    RoundEnded,
    RoundStarted,
    TextDelta,
    ThinkingDelta,
    Usage,
)
from maxd.workers.worker import STDERR_KEPT
from tests.workers.rig import (
    MODEL,
    FakeRig,
    Outcome,
    run_turn,
    start_worker,
    survivors,
    turn,
    until,
)

HELLO = turn(("user", "hello"))
HISTORY = turn(*[("user", "one"), ("assistant", "two")] * 3, ("user", "hello"))
BEFORE_READY = ["start", "ready"]
IN_TURN = ["bind", "import=1", "import=3", "ask", "message_start", "token=1", "token=3"]
IN_TURN += ["last_token", "message_stop"]
ENDS = ["exit=0", "exit=3", "signal=SIGKILL", "signal=SIGSEGV", "signal=SIGTERM"]
SHAPES = ["plain", "deaf", "stopped", "group", "session", "double_fork", "storm", "hopper"]
SHAPES += ["scrubbed", "pipe", "leaver", "mixture"]


async def answer(fake: FakeRig, **knobs: object) -> Outcome:
    """One turn with three messages of history, of a CLI set up like that."""
    for name, value in knobs.items():
        fake.knob(name.upper(), value)
    return await run_turn(fake, HISTORY)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("step", BEFORE_READY)
async def test_a_cli_that_ends_before_it_is_ready(fake: FakeRig, step: str, end: str) -> None:
    outcome = await answer(fake, at=f"{step}:{end}")
    assert type(outcome.ended.fault) is WorkerStartFailed
    assert (outcome.readiness, outcome.events, outcome.ended.stuck) == (None, [], False)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("step", IN_TURN)
async def test_a_cli_that_ends_in_its_turn(fake: FakeRig, step: str, end: str) -> None:
    outcome = await answer(fake, at=f"{step}:{end}", tokens=5)
    assert type(outcome.fault) is WorkerDied
    assert outcome.ended.fault is outcome.fault
    assert not outcome.ended.stuck
    # What it said before its end has arrived, all of it.
    told = {"token=1": 1, "token=3": 3, "last_token": 5, "message_stop": 5}.get(step, 0)
    assert outcome.text == "".join(f"word{number} " for number in range(1, told + 1))
    assert (RoundStarted(MODEL) in outcome.events) == (step not in IN_TURN[:4])
    assert (RoundEnded("end_turn") in outcome.events) == (step == "message_stop")


@pytest.mark.parametrize("end", ENDS)
async def test_a_cli_that_ends_after_its_turn(fake: FakeRig, end: str) -> None:
    outcome = await answer(fake, at=f"result:{end}", tokens=5)
    assert outcome.finished.stop_reason == "end_turn"
    # Whether it ended first or was killed first is not known.
    assert outcome.ended.fault is None or type(outcome.ended.fault) is WorkerDied


@pytest.mark.parametrize("milliseconds", [0, 5, 10, 15, 20, 25, 30, 40, 60])
async def test_a_cli_that_ends_at_any_moment(fake: FakeRig, milliseconds: int) -> None:
    outcome = await answer(fake, at=f"after={milliseconds}:exit=3", tokens=2000)
    if outcome.readiness is None:
        assert type(outcome.ended.fault) is WorkerStartFailed
    elif outcome.fault is None:
        assert outcome.finished.stop_reason == "end_turn"
    else:
        assert type(outcome.fault) is WorkerDied


async def test_a_spare_that_ends_by_itself(fake: FakeRig) -> None:
    fake.knob("AT", "after=200:exit=3")
    async with trio.open_nursery() as nursery:
        life = await start_worker(nursery, fake.launch())
        ended = await life.wait_ended()
    assert isinstance(ended.fault, WorkerDied | WorkerStartFailed)


@pytest.mark.parametrize("what", ["missing", "no program", "a folder", "no interpreter"])
async def test_a_cli_that_cannot_be_executed(fake: FakeRig, tmp_path: Path, what: str) -> None:
    fake.cli = tmp_path / "other"
    if what == "a folder":
        fake.cli.mkdir()
    elif what == "no program":
        fake.cli.write_text("text")
    elif what == "no interpreter":
        fake.cli.write_text("#!/nowhere/python\n")
        fake.cli.chmod(0o755)
    outcome = await run_turn(fake, HELLO)
    assert type(outcome.ended.fault) is WorkerStartFailed


async def test_a_working_directory_that_is_gone(fake: FakeRig) -> None:
    fake.home.rmdir()
    outcome = await run_turn(fake, HELLO)
    assert type(outcome.ended.fault) is WorkerStartFailed


async def test_its_last_words_on_stderr_are_kept_until_it_has_a_conversation(
    fake: FakeRig,
) -> None:
    outcome = await answer(fake, at="start:tell=unknown-option start:exit=1")
    assert outcome.ended.stderr == "unknown-option\n"
    outcome = await answer(fake, at="start:tell=early ask:tell=secret ask:exit=1")
    assert type(outcome.fault) is WorkerDied
    assert outcome.ended.stderr == ""


@pytest.mark.parametrize("silence", ["start:hang", "start:mute", "ready:hang", "start:close"])
async def test_a_cli_that_never_answers(fake: FakeRig, silence: str) -> None:
    fake.knob("AT", f"{silence} start:ignore=SIGTERM")
    outcome = await run_turn(fake, HELLO, start_seconds=0.3)
    assert type(outcome.ended.fault) is WorkerStartFailed
    assert not outcome.ended.stuck


@pytest.mark.parametrize("silence", ["bind:hang", "bind:mute", "import=2:hang", "token=2:hang"])
async def test_a_silent_turn_can_be_killed(fake: FakeRig, silence: str) -> None:
    """Also with 5 MB that nobody reads; whether silence has lasted too long is not its business."""
    fake.knob("AT", f"{silence} start:ignore=SIGTERM")
    fake.knob("TOKENS", 5)
    long = turn(("user", "x" * 5_000_000), ("user", "y" * 5_000_000), ("user", "z" * 5_000_000))
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            life = await start_worker(nursery, fake.launch())
            async with life.assign(long) as inbox:
                if "token" in silence:
                    await inbox.receive()
                await trio.testing.wait_all_tasks_blocked(0.2)
                life.worker.kill_nowait()
                ended = await life.wait_ended()
    assert (ended.fault, ended.stuck) == (None, False)


async def test_a_turn_closes_its_stdout(fake: FakeRig) -> None:
    outcome = await answer(fake, at="token=2:close", tokens=5)
    assert type(outcome.fault) is WorkerDied
    assert outcome.text == "word1 word2 "


@pytest.mark.parametrize("step", ["ready", "import=2", "token=2", "message_stop"])
@pytest.mark.parametrize("noise", ["junk=900", "odd", "line=50", "badline=50", "stderr=20"])
async def test_noise_changes_nothing(fake: FakeRig, step: str, noise: str) -> None:
    outcome = await answer(fake, at=f"{step}:{noise}", tokens=5)
    assert outcome.text == "word1 word2 word3 word4 word5 "
    assert outcome.finished.stop_reason == "end_turn"
    assert len(outcome.ended.stderr) <= STDERR_KEPT


@pytest.mark.parametrize("noise", ["junk=1100", "broken", "endless"])
async def test_too_much_noise_ends_the_worker(fake: FakeRig, noise: str) -> None:
    outcome = await answer(fake, at=f"ready:{noise}", tokens=5)
    assert type(outcome.ended.fault) is WorkerStartFailed
    outcome = await answer(fake, at=f"token=2:{noise}", tokens=5)
    assert type(outcome.fault) is ProtocolBroken
    assert outcome.text == "word1 word2 "


async def test_bytes_one_by_one(fake: FakeRig) -> None:
    text = "wörds — 🧑\u2028\r\n"
    fake.knob("AT", "start:bytewise")
    outcome = await run_turn(fake, turn(("user", text), ("assistant", text), ("user", text)))
    received = await fake.received(outcome)
    assert received.messages == [("user", [text]), ("assistant", [text]), ("user", [text])]


async def test_a_slow_reader_stops_the_cli(fake: FakeRig) -> None:
    """Backpressure: most of the answer stays with the CLI until it is asked for."""
    tokens = 150_000
    fake.knob("TOKENS", tokens)
    with trio.fail_after(100):
        async with trio.open_nursery() as nursery:
            life = await start_worker(nursery, fake.launch())
            async with life.assign(HELLO) as inbox:
                assert life.worker.pid is not None
                cli = psutil.Process(life.worker.pid)
                written = -1
                while written != (written := cli.io_counters().write_chars):
                    await trio.testing.wait_all_tasks_blocked(0.5)
                # One event is a line of about 150 bytes.
                assert 0 < written < tokens * 150 / 2
                texts = [
                    event.text
                    async for piece in inbox
                    for event in piece
                    if isinstance(event, TextDelta)
                ]
            life.worker.kill_nowait()
    assert texts == [f"word{number} " for number in range(1, tokens + 1)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("moment", ["idle", "turn", "crash"])
async def test_nothing_is_left_of_its_tree(fake: FakeRig, shape: str, moment: str) -> None:
    token = f"token-{uuid.uuid4().hex}"
    fake.knob("TOKEN", token)
    step = "ready" if moment == "idle" else "token=2"
    fake.knob("TOKENS", 5)
    fake.knob("AT", f"{step}:children={shape} {step}:{'exit=1' if moment == 'crash' else 'odd'}")
    if moment == "idle":
        async with trio.open_nursery() as nursery:
            life = await start_worker(nursery, fake.launch())
            assert survivors(token) != []
            life.worker.kill_nowait()
            ended = await life.wait_ended()
    else:
        outcome = await run_turn(fake, HELLO)
        ended = outcome.ended
        assert (outcome.fault is None) == (moment == "turn")
    assert not ended.stuck
    assert survivors(token) == []


@pytest.mark.parametrize("end", ["eof:hang", "eof:wait=30", "eof:hang start:ignore=SIGTERM"])
async def test_a_cli_that_does_not_want_to_go(fake: FakeRig, end: str) -> None:
    outcome = await answer(fake, at=end, tokens=5)
    assert outcome.finished.stop_reason == "end_turn"
    assert (outcome.ended.fault, outcome.ended.stuck) == (None, False)


async def test_a_second_try_upstream_is_told(fake: FakeRig) -> None:
    outcome = await answer(fake, answer="retry=529", text="good")
    assert outcome.events[0] == Retrying(1, 0.51825, 529)
    assert outcome.text == "good"


@pytest.mark.parametrize("version", ["2.1.330", "2.1.197"])
@pytest.mark.parametrize("tokens", [0, 1, 3])
async def test_a_stream_that_is_cut(fake: FakeRig, version: str, tokens: int) -> None:
    outcome = await answer(fake, answer=f"cut={tokens}", tokens=3, version=version)
    at = outcome.events.index(RoundBroken())
    assert outcome.events[0] == RoundStarted(MODEL)
    assert len([e for e in outcome.events[:at] if isinstance(e, TextDelta)]) == tokens
    rest = [e for e in outcome.events[at:] if not isinstance(e, TextDelta | Retrying)]
    assert rest[:-1] == [RoundBroken(), RoundStarted(MODEL), RoundEnded("end_turn")]
    assert isinstance(rest[-1], Finished)


@pytest.mark.parametrize("version", ["2.1.330", "2.1.197"])
@pytest.mark.parametrize(
    ("kind", "fault"), [("lost=2", UpstreamUnreachable), ("unreachable", UpstreamUnreachable)]
)
async def test_a_service_that_cannot_be_reached(
    fake: FakeRig, version: str, kind: str, fault: type[Fault]
) -> None:
    outcome = await answer(fake, answer=kind, tokens=3, version=version)
    assert type(outcome.fault) is fault
    assert outcome.ended.fault is outcome.fault


async def test_a_success_in_the_middle_of_a_message_is_none(fake: FakeRig) -> None:
    outcome = await answer(fake, answer="open=2", tokens=3)
    assert type(outcome.fault) is ProtocolBroken


async def test_an_end_that_nothing_explains(fake: FakeRig) -> None:
    outcome = await answer(fake, answer="gave_up")
    assert type(outcome.fault) is WorkerDied


async def test_an_answer_without_deltas(fake: FakeRig) -> None:
    outcome = await answer(fake, answer="unstreamed", text="whole", usage="1,2,3,4,1")
    assert outcome.events == [
        RoundStarted(MODEL),
        TextDelta("whole"),
        RoundEnded("end_turn"),
        Finished("end_turn", Usage(1, 2, 3, 4, 1)),
    ]


async def test_thinking_and_a_window_that_is_nearly_used_up(fake: FakeRig) -> None:
    outcome = await answer(fake, answer="warning", text="x", thinking="hmm")
    limit = outcome.events[0]
    assert isinstance(limit, AccountLimit)
    assert (limit.status, limit.utilization) == ("allowed_warning", 0.9)
    assert outcome.events[1:4] == [RoundStarted(MODEL), ThinkingDelta("hmm"), TextDelta("x")]


@pytest.mark.soak
async def test_a_thousand_lives_leave_nothing(fake: FakeRig) -> None:
    """A third of them answer, a third are killed as spares, a third in the middle of a turn;
    MAXD_SOAK of them, twenty at a time."""
    count = int(os.environ.get("MAXD_SOAK", "100"))
    fake.knob("AT", "token=2:wait=0.01")
    fake.knob("TOKENS", 5)
    limiter = trio.CapacityLimiter(20)
    started = trio.current_time()
    tasks = trio.lowlevel.current_statistics().tasks_living
    descriptors = psutil.Process().num_fds()
    # Other tests may have a daemon running for all of them.
    children = psutil.Process().children()

    async def one_life(number: int) -> None:
        async with limiter, trio.open_nursery() as nursery:
            life = await start_worker(nursery, fake.launch(CHAT))
            assert life.ended is None, life.ended
            if number % 3:
                async with life.assign(HELLO) as inbox:
                    await inbox.receive()
                    if number % 3 == 2:
                        life.worker.kill_nowait()
                    async for _ in inbox:
                        pass
            else:
                life.worker.freeze_nowait()
            life.worker.kill_nowait()
            ended = await life.wait_ended()
            assert (ended.fault, ended.stuck) == (None, False)

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(one_life, number)
    await until(lambda: trio.lowlevel.current_statistics().tasks_living == tasks)
    assert psutil.Process().num_fds() == descriptors
    assert psutil.Process().children() == children
    assert list(fake.home.iterdir()) == []
    print(f"\n{count} lives in {trio.current_time() - started:.1f} s, {descriptors} descriptors")
