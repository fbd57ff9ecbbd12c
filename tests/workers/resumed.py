"""A conversation with workers that are killed and resumed from the CLI's own session."""

import json
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import trio

from maxd.workers.cli import login_state
from maxd.workers.faults import Fault, WorkerDied
from maxd.workers.launch import Launch
from maxd.workers.profiles import AGENT, Profile
from maxd.workers.sessions import projects_directory, transcript_path, wait_written
from maxd.workers.turn import Event, Finished, Part, TextDelta, TurnRecord
from tests.workers.rig import FakeRig, Life, RealRig, Rig, start_worker, turn

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
