"""Going on with a conversation from the CLI's own session, with the fake CLI and with real ones."""

import json
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from maxd.workers.cli import login_state
from maxd.workers.faults import Fault, SessionLost, WorkerDied, WorkerStartFailed
from maxd.workers.launch import Launch
from maxd.workers.profiles import AGENT, CHAT, Profile
from maxd.workers.sessions import (
    check_resumable,
    projects_directory,
    read_ending,
    transcript_path,
    wait_written,
)
from maxd.workers.turn import Event, Finished, Image, Part, Text, TextDelta, TurnRecord
from tests.workers.rig import FakeRig, Life, RealRig, Rig, start_worker, turn

UNKNOWN = "0e984725-c51c-4bf4-9960-e1c80e27aba0"
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAA"
    "AABJRU5ErkJggg=="
)
MADE = "made by a tool"
Shown = list[tuple[str, list[Any]]]


class Conversation:
    """A client's side of one conversation: it sends all of it with each turn."""

    def __init__(self, rig: Rig, *, system: Sequence[str] = ("Be brief.",)) -> None:
        self.rig = rig
        self.system = system
        self.messages: list[tuple[str, str | Sequence[Part]]] = []
        self.record = TurnRecord()
        # What reached the model with the last turn.
        self.seen_system = ""
        self.seen: Shown = []

    async def ask(self, life: Life, question: str | Sequence[Part], *, known: bool = True) -> str:
        """One turn. With `known` the worker holds all that came before."""
        held = len(self.messages) if known else 0
        asked = [*self.messages, ("user", question)]
        outbox, inbox = trio.open_memory_channel[list[Event] | Fault](64)
        life.worker.assign_nowait(turn(*asked, system=self.system, profile="agent"), outbox, held)
        events: list[Event] = []
        async with inbox:
            async for piece in inbox:
                if isinstance(piece, Fault):
                    raise piece
                events += piece
        assert isinstance(events[-1], Finished)
        text = "".join(event.text for event in events if isinstance(event, TextDelta))
        self.messages = [*asked, ("assistant", text)]
        self.record = life.worker.record
        self._look(text)
        return text

    def _look(self, text: str) -> None:
        if isinstance(self.rig, RealRig):
            assert self.rig.model is not None
            body = self.rig.model.requests[-1].body
            self.seen_system = body["system"][-1]["text"]
            self.seen = shown(body["messages"])
        elif text.startswith("{"):
            echo = json.loads(text)
            self.seen_system = echo["system"]
            self.seen = [(role, blocks) for role, blocks in echo["messages"]]

    async def transcript(self) -> Path:
        """The file of its session."""
        assert self.record.session is not None
        return transcript_path(await projects(self.rig), str(self.rig.home), self.record.session)

    async def written(self) -> Path:
        """The file of its session, once it holds the last turn."""
        path = await self.transcript()
        assert self.record.last_line is not None
        assert await wait_written(path, self.record.last_line, trio.current_time() + 20)
        return path

    @asynccontextmanager
    async def worker(self, *, resumed: bool = False) -> AsyncIterator[Life]:
        """A worker of it, new or with its session."""
        session = self.record.session if resumed else None
        async with trio.open_nursery() as nursery:
            life = await start_worker(nursery, launch(self.rig, session))
            if life.ended is None:
                yield life
                life.worker.kill_nowait()
                return
        assert life.ended.fault is not None
        raise life.ended.fault

    async def kill(self, life: Life) -> None:
        """Kill its process without a chance to write anything more."""
        assert life.worker.pid is not None
        os.kill(life.worker.pid, signal.SIGKILL)
        assert isinstance((await life.wait_ended()).fault, WorkerDied)


def launch(rig: Rig, session: str | None = None, profile: Profile = AGENT) -> Launch:
    return msgspec.structs.replace(rig.launch(profile), resume=session)


async def projects(rig: Rig) -> Path:
    return projects_directory(await login_state(rig.cli, rig.environment), rig.environment)


def shown(messages: list[dict[str, Any]]) -> Shown:
    """Messages of a request as the fake tells them, without what the CLI has put in."""
    found: Shown = []
    for message in messages:
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        said = [block for each in blocks if (block := shown_block(each)) is not None]
        if said and message["role"] != "system":
            found.append((message["role"], said))
    return found


def shown_block(block: dict[str, Any]) -> Any:
    match block["type"]:
        # 2.1.330 keeps a copy of each image beside a session, and tells the model where.
        case "text" if block["text"].startswith(("<system-reminder>", "[Image: source: ")):
            return None
        case "text":
            return block["text"]
        case "image":
            return ["image", block["source"]["media_type"], block["source"]["data"]]
        case "tool_use":
            return ["tool_use", block["name"]]
        case kind:
            return [kind, block["content"]]


def use_tool(rig: Rig) -> None:
    # On stderr: the fake's stdout is its pipe to the worker.
    rig.use_tool("Bash", f"echo '{MADE}' >&2")


def echo(rig: Rig) -> None:
    """From now on the model just answers."""
    if isinstance(rig, FakeRig):
        rig.environment.pop("FAKE_CLI_ANSWER", None)
        rig.environment.pop("FAKE_CLI_TEXT", None)
    else:
        rig.say("answer")


async def worked(rig: Rig) -> Conversation:
    """A conversation whose only turn has used a tool, whose transcript is whole, and whose worker
    has been killed."""
    talk = Conversation(rig)
    use_tool(rig)
    async with talk.worker() as life:
        await talk.ask(life, "question")
        await talk.written()
        await talk.kill(life)
    echo(rig)
    return talk


def of_the_tool(talk: Conversation) -> Shown:
    """The first turn of `worked` as a model is to be shown it, its results checked."""
    assert [role for role, _ in talk.seen[:4]] == ["user", "assistant", "user", "assistant"]
    [(_, asked), (_, called), (_, [(kind, result), *_]), (_, answer)] = talk.seen[:4]
    assert (asked, called, kind) == (["question"], [["tool_use", "Bash"]], "tool_result")
    assert MADE in json.dumps(result)
    assert answer == [talk.messages[1][1]]
    return talk.seen[:4]


@pytest.fixture(autouse=True)
async def _limit() -> AsyncIterator[None]:
    with trio.fail_after(90):
        yield


async def test_a_resumed_worker_holds_the_work_of_the_tools(rig: Rig) -> None:
    talk = await worked(rig)
    first = talk.record
    async with talk.worker(resumed=True) as life:
        await talk.ask(life, "and now?")
    assert talk.seen == [*of_the_tool(talk), ("user", ["and now?"])]
    assert talk.record.session == first.session
    assert talk.record.last_line != first.last_line
    if isinstance(rig, RealRig):
        assert rig.model is not None
        assert rig.model.count == 3


async def test_it_is_resumed_again_and_again(rig: Rig) -> None:
    talk = await worked(rig)
    for number in range(2):
        async with talk.worker(resumed=True) as life:
            await talk.ask(life, f"turn {number}")
            await talk.ask(life, f"more {number}")
            await talk.written()
            await talk.kill(life)
    said = [text for _, text in talk.messages[2:-1]]
    assert [block for _, [block] in talk.seen[4:]] == said
    of_the_tool(talk)


async def test_a_client_that_sends_only_what_is_new(rig: Rig) -> None:
    talk = await worked(rig)
    first = talk.messages
    talk.messages = []
    async with talk.worker(resumed=True) as life:
        await talk.ask(life, "and now?")
    talk.messages = [*first, *talk.messages]
    assert talk.seen == [*of_the_tool(talk), ("user", ["and now?"])]


async def test_a_worker_that_ends_in_order_can_be_resumed_without_a_wait(rig: Rig) -> None:
    talk = Conversation(rig)
    use_tool(rig)
    async with talk.worker() as life:
        await talk.ask(life, "question")
    assert talk.record.last_line is not None
    await check_resumable(await talk.transcript(), talk.record.last_line)
    echo(rig)
    async with talk.worker(resumed=True) as life:
        await talk.ask(life, "and now?")
    assert talk.seen == [*of_the_tool(talk), ("user", ["and now?"])]


async def test_killed_at_once_it_has_lost_the_turn_or_can_be_resumed(rig: Rig) -> None:
    """2.1.330 has written the turn before it tells its end, 2.1.197 up to 0.1 s later."""
    talk = Conversation(rig)
    use_tool(rig)
    async with talk.worker() as life:
        await talk.ask(life, "question")
        await talk.kill(life)
    echo(rig)
    assert talk.record.last_line is not None
    try:
        await check_resumable(await talk.transcript(), talk.record.last_line)
    except SessionLost:
        return
    async with talk.worker(resumed=True) as life:
        await talk.ask(life, "and now?")
    assert talk.seen == [*of_the_tool(talk), ("user", ["and now?"])]


async def test_a_fake_that_writes_late_loses_what_is_killed_at_once(fake: FakeRig) -> None:
    fake.knob("WRITES", "late=60")
    talk = Conversation(fake)
    async with talk.worker() as life:
        await talk.ask(life, "question")
        path, line = await talk.transcript(), talk.record.last_line
        assert line is not None
        assert not await wait_written(path, line, trio.current_time() + 0.1)
        await talk.kill(life)
    assert read_ending(path) is None
    with pytest.raises(SessionLost):
        async with talk.worker(resumed=True):
            pass


async def test_a_resumed_worker_that_is_not_used_changes_nothing(rig: Rig) -> None:
    talk = await worked(rig)
    for hard in (True, False):
        async with talk.worker(resumed=True) as life:
            if hard:
                await talk.kill(life)
    assert talk.record.last_line is not None
    await check_resumable(await talk.transcript(), talk.record.last_line)


@pytest.mark.parametrize("system", [(), ("Be verbose.",), ("Be brief.",), ("Be", "both.")])
async def test_the_system_prompt_is_that_of_the_new_turn(rig: Rig, system: tuple[str, ...]) -> None:
    talk = await worked(rig)
    talk.system = system
    async with talk.worker(resumed=True) as life:
        await talk.ask(life, "and now?")
    assert talk.seen_system.endswith("\n\n".join(system))
    assert ("Be brief." in talk.seen_system) is (system == ("Be brief.",))


async def test_images_of_the_history_come_back(rig: Rig) -> None:
    picture = Image("image/png", PIXEL)
    talk = Conversation(rig)
    talk.messages = [("user", [Text("before"), picture]), ("assistant", "seen")]
    async with talk.worker() as life:
        await talk.ask(life, [picture, Text("and this?")], known=False)
        await talk.written()
        await talk.kill(life)
    async with talk.worker(resumed=True) as life:
        await talk.ask(life, "thanks")
    block = ["image", "image/png", PIXEL]
    assert talk.seen == [
        ("user", ["before", block]),
        ("assistant", ["seen"]),
        ("user", [block, "and this?"]),
        ("assistant", [talk.messages[3][1]]),
        ("user", ["thanks"]),
    ]


async def test_an_unknown_session_is_lost(rig: Rig) -> None:
    async with trio.open_nursery() as nursery:
        life = await start_worker(nursery, launch(rig, UNKNOWN))
        ended = await life.wait_ended()
    assert type(ended.fault) is SessionLost
    assert isinstance(ended.fault, WorkerStartFailed)
    assert not ended.stuck


async def test_a_deleted_or_emptied_transcript_is_lost(rig: Rig) -> None:
    talk = await worked(rig)
    path, line = await talk.transcript(), talk.record.last_line
    assert line is not None
    for harm in ("empty", "garbage", "deleted", "a directory"):
        match harm:
            case "empty":
                path.write_bytes(b"")
            case "garbage":
                path.write_bytes(b"\x00\xff{]\n" * 100)
            case "deleted":
                path.unlink()
            case _:
                path.mkdir()
        with pytest.raises(SessionLost):
            await check_resumable(path, line)
        with pytest.raises(SessionLost):
            async with talk.worker(resumed=True):
                pass


async def test_a_transcript_without_its_end_is_lost_though_the_cli_would_take_it(
    rig: Rig,
) -> None:
    """The CLI says nothing of what is missing: only a look at the file tells."""
    talk = await worked(rig)
    path, line = await talk.transcript(), talk.record.last_line
    assert line is not None
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    last = next(at for at, each in enumerate(lines) if line.encode() in each)
    before = b"".join(lines[:last])
    for cut in (before, before + lines[last][:-1], before + lines[last][:100], whole[:-1]):
        path.write_bytes(cut)
        with pytest.raises(SessionLost):
            await check_resumable(path, line)
    path.write_bytes(before)
    async with talk.worker(resumed=True) as life:
        await talk.ask(life, "and now?")
    assert talk.messages[1][1] not in [block for _, said in talk.seen for block in said]
    assert ("assistant", ["No response requested."]) in talk.seen


async def test_a_session_of_another_directory_is_lost(rig: Rig) -> None:
    """2.1.330 would find it there, 2.1.197 does not."""
    talk = await worked(rig)
    other = rig.home / "other"
    other.mkdir()
    assert talk.record.session is not None
    assert talk.record.last_line is not None
    path = transcript_path(await projects(rig), str(other), talk.record.session)
    with pytest.raises(SessionLost):
        await check_resumable(path, talk.record.last_line)


@pytest.mark.parametrize("name", ["a.b_c d", "é😀", "x" * 150 + "/" + "y" * 150])
async def test_the_transcript_is_where_it_is_expected(rig: Rig, name: str) -> None:
    if isinstance(rig, FakeRig) and len(name) != 7:
        pytest.skip("the fake names directories in the simple way")
    place = rig.home / name
    place.mkdir(parents=True)
    link = rig.home / "link"
    link.symlink_to(place)
    rig.home = link
    talk = Conversation(rig)
    async with talk.worker() as life:
        await talk.ask(life, "question")
    assert (await talk.transcript()).exists()


async def test_a_configured_directory_of_the_cli_is_followed(rig: Rig) -> None:
    rig.environment["CLAUDE_CONFIG_DIR"] = str(rig.home / "configured")
    talk = Conversation(rig)
    async with talk.worker() as life:
        await talk.ask(life, "question")
    path = await talk.transcript()
    assert path.is_relative_to(rig.home / "configured")
    assert path.exists()


async def test_what_has_no_tools_or_no_turn_leaves_nothing(rig: Rig) -> None:
    async with trio.open_nursery() as nursery:
        for profile in (AGENT, CHAT):
            life = await start_worker(nursery, launch(rig, profile=profile))
            if profile is CHAT:
                async with life.assign(turn(("user", "hello"))) as inbox:
                    assert [piece async for piece in inbox]
                assert (life.worker.record.session, life.worker.record.last_line) == (None, None)
                assert life.worker.record.context_window == 200_000
            life.worker.kill_nowait()
            await life.wait_ended()
    assert list(rig.home.rglob("*.jsonl")) == []


async def test_what_a_turn_cost_is_told_for_each_by_itself(rig: Rig) -> None:
    rig.say("answer", usage=(900, 200, 300, 500))
    talk = Conversation(rig)
    costs = []
    async with talk.worker() as life:
        for question in ("one", "two"):
            await talk.ask(life, question)
            costs.append(talk.record.cost)
            assert talk.record.context_tokens == 1900
            assert talk.record.context_window == 200_000
    # It ended in order, so that 2.1.330 has left its count in the transcript.
    async with talk.worker(resumed=True) as life:
        for question in ("three", "four"):
            await talk.ask(life, question)
            costs.append(talk.record.cost)
    assert costs[0] > 0
    assert costs == pytest.approx([costs[0]] * 4)
