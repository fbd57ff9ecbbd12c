"""What a worker promises, with the fake CLI and with the real one against a loopback model."""

import base64
import struct
import zlib

import pytest
import trio
import trio.testing

from maxd.workers.faults import (
    BackendUnavailable,
    ContextTooLong,
    Fault,
    ModelNotFound,
    RateLimited,
    TooLarge,
    UpstreamFault,
    UpstreamOverloaded,
    UpstreamRefused,
    UpstreamUnreachable,
    UsageLimit,
    UseRefused,
    WorkerDied,
)
from maxd.workers.profiles import AGENT, CHAT, Profile
from maxd.workers.turn import (
    AccountLimit,
    Event,
    Finished,
    Image,
    Retrying,
    RoundBroken,
    RoundEnded,
    RoundStarted,
    Text,
    TextDelta,
    ToolStarted,
    Usage,
)
from tests.workers.rig import (
    MODEL,
    FakeRig,
    RealRig,
    Received,
    Rig,
    run_turn,
    start_worker,
    turn,
)

PROFILES = pytest.mark.parametrize("profile", [CHAT, AGENT], ids=lambda profile: profile.name)


def png() -> str:
    """A picture of one pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\x00\x10\x20\x30")
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + parts).decode()


@PROFILES
async def test_it_gets_ready_and_says_who_it_is(rig: Rig, profile: Profile) -> None:
    async with trio.open_nursery() as nursery:
        life = await start_worker(nursery, rig.launch(profile, ask_models=True))
        assert life.readiness is not None
        assert life.readiness.version.startswith("2.")
        assert life.readiness.models is not None
        # 2.1.197 does not know the question.
        if life.readiness.models.listed is None:
            assert life.readiness.version == "2.1.197"
        else:
            assert b"sonnet" in bytes(life.readiness.models.listed)
        life.worker.kill_nowait()
        ended = await life.wait_ended()
    assert (ended.fault, ended.stuck) == (None, False)


@PROFILES
async def test_a_turn_in_order(rig: Rig, profile: Profile) -> None:
    rig.say("one two three")
    outcome = await run_turn(rig, turn(("user", "hello")), profile)
    assert outcome.text == "one two three"
    assert without_usage(outcome.events)[0] == RoundStarted(MODEL)
    assert all(isinstance(event, TextDelta) for event in outcome.events[1:-2])
    assert outcome.events[-2] == RoundEnded("end_turn")
    assert outcome.events[-1] == Finished("end_turn", Usage(9, 2, 3, 5, 0))
    assert (outcome.ended.fault, outcome.ended.stuck) == (None, False)


@pytest.mark.parametrize("count", [0, 1, 2, 20])
async def test_a_history_arrives_as_messages(rig: Rig, count: int) -> None:
    roles = ["user" if index % 2 == count % 2 else "assistant" for index in range(count)]
    history = [(role, f"{role} says {index}") for index, role in enumerate(roles)]
    outcome = await run_turn(rig, turn(*history, ("user", "and now?")))
    received = await rig.received(outcome)
    expected = [(role, [said]) for role, said in history]
    assert received.messages == [*expected, ("user", ["and now?"])]


async def test_messages_of_the_user_in_a_row(rig: Rig) -> None:
    """The CLI joins them to one, with nothing in between as long as each is waited for."""
    said = [("user", "one"), ("user", "two"), ("assistant", "three"), ("user", "four")]
    outcome = await run_turn(rig, turn(*said, ("user", "five")))
    received = await rig.received(outcome)
    assert received.messages == [
        ("user", ["one", "two"]),
        ("assistant", ["three"]),
        ("user", ["four", "five"]),
    ]


async def test_images(rig: Rig) -> None:
    picture = Image("image/png", png())
    shown = ["image", "image/png", png()]
    outcome = await run_turn(
        rig,
        turn(
            ("user", [Text("before"), picture, Text("after")]),
            ("assistant", "seen"),
            ("user", [picture, Text("and this?")]),
        ),
    )
    received = await rig.received(outcome)
    assert received.messages == [
        ("user", ["before", shown, "after"]),
        ("assistant", ["seen"]),
        ("user", [shown, "and this?"]),
    ]


@pytest.mark.parametrize("system", [(), ("Be brief.",), ("Be brief.", "Be kind.")])
async def test_a_system_prompt_replaces_that_of_the_cli(rig: Rig, system: tuple[str, ...]) -> None:
    outcome = await run_turn(rig, turn(("user", "hello"), system=system))
    assert (await rig.received(outcome)).system == "\n\n".join(system)


@pytest.mark.parametrize("system", [(), ("Be brief.",), ("Be brief.", "Be kind.")])
async def test_a_system_prompt_is_appended_to_that_of_the_cli(
    rig: Rig, system: tuple[str, ...]
) -> None:
    outcome = await run_turn(rig, turn(("user", "hello"), system=system, profile="agent"), AGENT)
    received = (await rig.received(outcome)).system
    appended = "\n\n".join(system)
    assert appended in received
    assert len(received) > len(appended) + 20


@pytest.mark.parametrize("text", ["/help me", "/compact", "/nosuchcommand x", "/", "/clear\nnow"])
async def test_what_looks_like_a_command_arrives_as_written(rig: Rig, text: str) -> None:
    outcome = await run_turn(rig, turn(("user", text), ("assistant", text), ("user", text)))
    assert outcome.finished.stop_reason == "end_turn"
    received = await rig.received(outcome)
    assert received.messages == [("user", [text]), ("assistant", [text]), ("user", [text])]


TEXTS = {
    "lines": "a\r\nb\rc\n\nd\ttab",
    "separators": "line\u2028separator, paragraph\u2029separator, next\x85line, zero\u200bwidth",
    "controls": "bell\x07 escape\x1b[31m delete\x7f",
    "beyond": "🧑‍🚀 𐍈𠜎 e\u0301 \U0010ffff \ufffd \ufeff inside",
    "scripts": "שלום عالم 你好 हिन्दी ไทย",
    "json": '{"type":"result","is_error":false}\n"quotes" \\ back\\u0041slash </script>',
    "marks": "<user>hi</user> # ! ultrathink @file $VAR `code`",
}


@pytest.mark.parametrize("name", TEXTS)
async def test_any_text_arrives_as_written(rig: Rig, name: str) -> None:
    text = TEXTS[name]
    outcome = await run_turn(rig, turn(("user", text), ("assistant", text), ("user", text)))
    received = await rig.received(outcome)
    assert received.messages == [("user", [text]), ("assistant", [text]), ("user", [text])]


@pytest.mark.parametrize("name", TEXTS)
async def test_any_text_is_answered_as_written(rig: Rig, name: str) -> None:
    rig.say(TEXTS[name])
    assert (await run_turn(rig, turn(("user", "hello")))).text == TEXTS[name]


async def test_a_megabyte_arrives_whole(rig: Rig) -> None:
    text = "".join(f"line {number} of many — \n" for number in range(50_000))
    outcome = await run_turn(rig, turn(("user", text), ("assistant", "yes"), ("user", text + "?")))
    received = await rig.received(outcome)
    expected: list[tuple[str, list[str]]] = [
        ("user", [text]),
        ("assistant", ["yes"]),
        ("user", [text + "?"]),
    ]
    assert received == Received("", [(role, list(said)) for role, said in expected])


async def test_a_frozen_spare_answers_when_thawed(rig: Rig) -> None:
    rig.say("still here")
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            life = await start_worker(nursery, rig.launch())
            for _ in range(3):
                life.worker.freeze_nowait()
                life.worker.thaw_nowait()
            life.worker.freeze_nowait()
            inbox = life.assign(turn(("user", "hello")))
            life.worker.thaw_nowait()
            async with inbox:
                events = [event async for piece in inbox for event in piece]
            life.worker.kill_nowait()
    assert isinstance(events[-1], Finished)


async def test_killed_while_it_starts(rig: Rig) -> None:
    async with trio.open_nursery() as nursery:
        launch = rig.launch()
        nursery.start_soon(start_worker, nursery, launch)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def test_killed_while_idle_or_frozen(rig: Rig) -> None:
    async with trio.open_nursery() as nursery:
        for freeze in (False, True):
            life = await start_worker(nursery, rig.launch())
            if freeze:
                life.worker.freeze_nowait()
            life.worker.kill_nowait()
            ended = await life.wait_ended()
            assert (ended.fault, ended.stuck) == (None, False)


async def test_killed_while_it_imports(rig: Rig) -> None:
    if isinstance(rig, FakeRig):
        # It takes in a history so quickly that the kill could come too late.
        rig.knob("AT", "import=50:hang")
    history = [("user" if index % 2 == 0 else "assistant", f"{index}") for index in range(400)]
    async with trio.open_nursery() as nursery:
        life = await start_worker(nursery, rig.launch())
        async with life.assign(turn(*history, ("user", "now"))) as inbox:
            await trio.testing.wait_all_tasks_blocked()
            life.worker.kill_nowait()
            assert [piece async for piece in inbox] == []
        assert (await life.wait_ended()).fault is None


async def test_killed_while_it_streams(rig: Rig) -> None:
    rig.say("word " * 1000, pace=0.02)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            life = await start_worker(nursery, rig.launch())
            async with life.assign(turn(("user", "hello"))) as inbox:
                await inbox.receive()
                life.worker.kill_nowait()
                assert not (await life.wait_ended()).stuck


async def test_a_turn_whose_reader_goes_away_dies(rig: Rig) -> None:
    rig.say("word " * 1000, pace=0.02)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            life = await start_worker(nursery, rig.launch())
            async with life.assign(turn(("user", "hello"))) as inbox:
                await inbox.receive()
            assert isinstance((await life.wait_ended()).fault, WorkerDied)


def without_usage(events: list[Event]) -> list[Event]:
    """`events`, with no figures at the start of a round: only the real CLI tells them there."""
    return [RoundStarted(e.model) if isinstance(e, RoundStarted) else e for e in events]


FAILURES: dict[str, tuple[type[Fault], int]] = {
    "400": (UpstreamRefused, 400),
    "401": (BackendUnavailable, 503),
    "403": (UseRefused, 403),
    "404": (ModelNotFound, 404),
    "413": (TooLarge, 413),
    "429": (RateLimited, 429),
    "limit": (UsageLimit, 429),
    "500": (UpstreamFault, 502),
    "529": (UpstreamOverloaded, 503),
    "unreachable": (UpstreamUnreachable, 502),
    "logged_out": (BackendUnavailable, 503),
    "too_long": (ContextTooLong, 400),
}


@pytest.mark.parametrize("kind", FAILURES)
async def test_a_failure_gives_its_fault(rig: Rig, kind: str) -> None:
    rig.fail(kind)
    outcome = await run_turn(rig, turn(("user", "hello")))
    assert (type(outcome.fault), outcome.fault and outcome.fault.status) == FAILURES[kind]
    assert outcome.ended.fault is outcome.fault
    assert [event for event in outcome.events if not isinstance(event, AccountLimit)] == []
    if kind == "limit":
        [limit] = outcome.events
        assert isinstance(limit, AccountLimit)
        assert (limit.status, limit.window) == ("rejected", "five_hour")
        assert isinstance(outcome.fault, UsageLimit)
        assert outcome.fault.retry_after is not None
        assert 3000 < outcome.fault.retry_after <= 3601


@pytest.mark.parametrize("reason", ["max_tokens", "refusal"])
async def test_an_answer_that_is_cut_short_or_refused_is_finished(rig: Rig, reason: str) -> None:
    rig.stop(reason)
    outcome = await run_turn(rig, turn(("user", "hello")))
    assert outcome.finished.stop_reason == reason
    # The CLI asks the model to go on, 3 times after max_tokens and once (2.1.330) or never
    # (2.1.197) after a refusal.
    rounds = [event for event in outcome.events if isinstance(event, RoundStarted)]
    assert len(rounds) == 4 if reason == "max_tokens" else len(rounds) in (1, 2)
    assert outcome.text == "as far as " * len(rounds)


async def test_a_tool_is_allowed_and_runs(rig: Rig) -> None:
    made = rig.home / "made here"
    rig.use_tool("Bash", f"touch '{made}'")
    outcome = await run_turn(rig, turn(("user", "hello"), profile="agent"), AGENT)
    kinds = [type(event) for event in outcome.events if not isinstance(event, TextDelta)]
    one_round = [RoundStarted, RoundEnded]
    assert kinds == [RoundStarted, ToolStarted, RoundEnded, *one_round, Finished]
    assert [e.name for e in outcome.events if isinstance(e, ToolStarted)] == ["Bash"]
    assert [event for event in outcome.events if isinstance(event, RoundEnded)] == [
        RoundEnded("tool_use"),
        RoundEnded("end_turn"),
    ]
    assert made.exists()


async def test_a_tool_that_needs_a_person_is_denied(rig: Rig) -> None:
    rig.use_tool("AskUserQuestion", "unused")
    outcome = await run_turn(rig, turn(("user", "hello"), profile="agent"), AGENT)
    assert outcome.finished.stop_reason == "end_turn"
    if isinstance(rig, FakeRig):
        assert "denied" in outcome.text


async def test_chat_has_no_tools(rig: Rig) -> None:
    made = rig.home / "made here"
    rig.use_tool("Bash", f"touch '{made}'")
    outcome = await run_turn(rig, turn(("user", "hello")))
    assert outcome.finished.stop_reason == "end_turn"
    assert not made.exists()


@pytest.mark.parametrize("tokens", [0, 2, 4])
async def test_a_stream_that_is_cut_upstream_is_begun_again(rig: Rig, tokens: int) -> None:
    """The CLI has passed on the first part, asks again by itself and passes on the whole answer
    to that as another message."""
    rig.cut(tokens)
    outcome = await run_turn(rig, turn(("user", "hello")))
    assert isinstance(outcome.events[-1], Finished)
    told = without_usage(outcome.events)
    rounds = [e for e in told if not isinstance(e, TextDelta | Retrying | Finished)]
    one, other = RoundStarted(MODEL), RoundEnded("end_turn")
    if tokens == 0 and isinstance(rig, RealRig) and RoundBroken() not in rounds:
        # The cut has overtaken the only event before it.
        assert rounds == [one, other]
        assert outcome.text == "second answer"
        return
    assert rounds == [one, RoundBroken(), one, other]
    valid = outcome.events[outcome.events.index(RoundBroken()) :]
    assert "".join(e.text for e in valid if isinstance(e, TextDelta)) == "second answer"
    if tokens == 2:
        assert outcome.text != "second answer"
