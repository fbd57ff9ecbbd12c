"""Workers on a CLI of either kind, and what the model behind it was told to do and was given."""

import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import psutil
import trio
from msgspec import Struct

from maxd.workers.cli import bundled_cli
from maxd.workers.faults import Fault
from maxd.workers.launch import Launch
from maxd.workers.loopback import Error, Limit, LoopbackModel, Reply, Request, Usage, environment
from maxd.workers.profiles import CHAT, Profile
from maxd.workers.tree import MARKER
from maxd.workers.turn import Event, Finished, Message, Part, Text, TextDelta, Turn
from maxd.workers.worker import Ended, Readiness, Worker

MODEL = "claude-sonnet-4-5"
FAKE_CLI = Path(__file__).parents[1] / "fakes" / "fake_cli.py"
OTHER_CLI = "MAXD_TEST_OTHER_CLI"
"""The variable that names a second real CLI to run the contract with."""
MARKER_OF_TESTS = "maxd-worker-tests"

Block: TypeAlias = str | list[str]


class Received(Struct):
    """What reached the model: the system prompt, and roles with their blocks, where a text is
    itself and an image is `["image", media type, data]`."""

    system: str
    messages: list[tuple[str, list[Block]]]


class Outcome(Struct):
    """One turn of one worker, from start to end."""

    events: list[Event]
    fault: Fault | None
    readiness: Readiness | None
    ended: Ended

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, TextDelta))

    @property
    def finished(self) -> Finished:
        assert self.fault is None, self.fault
        assert isinstance(self.events[-1], Finished)
        return self.events[-1]


def turn(
    *messages: tuple[str, str | Sequence[Part]], system: Sequence[str] = (), profile: str = "chat"
) -> Turn:
    """A turn from pairs of role and text (or parts)."""
    return Turn(
        profile=profile,
        model=MODEL,
        system=tuple(system),
        messages=tuple(
            Message(
                "assistant" if role == "assistant" else "user",
                (Text(said),) if isinstance(said, str) else tuple(said),
            )
            for role, said in messages
        ),
    )


class Rig:
    """A CLI and the model behind it. The methods that script the model come before a launch."""

    kind: ClassVar[str]

    def __init__(self, cli: Path, home: Path) -> None:
        self.cli = cli
        self.home = home
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home)}
        self._launched = 0

    def launch(
        self, profile: Profile = CHAT, *, start_seconds: float = 60, ask_models: bool = False
    ) -> Launch:
        self._launched += 1
        return Launch(
            id=f"w{self._launched}",
            cli=str(self.cli),
            profile=profile,
            model=MODEL,
            directory=str(self.home),
            environment=dict(self.environment),
            marker=f"{MARKER_OF_TESTS}/{os.getpid()}-{self._launched}",
            start_seconds=start_seconds,
            ask_models=ask_models,
        )

    def say(self, text: str, *, pace: float = 0, usage: Sequence[int] = (9, 2, 3, 5)) -> None:
        """The model answers `text`, `pace` seconds per token. `usage`: input, cache creation,
        cache read, output."""
        raise NotImplementedError

    def use_tool(self, name: str, command: str) -> None:
        """The model calls a tool, then answers with what it gave."""
        raise NotImplementedError

    def fail(self, kind: str) -> None:
        """The turn fails, in one of the ways of FAILURES."""
        raise NotImplementedError

    def stop(self, reason: str) -> None:
        """Each message of the model is "as far as " and ends with this stop reason."""
        raise NotImplementedError

    def cut(self, tokens: int) -> None:
        """The model's stream is cut after `tokens` of "one two three four"; what follows is the
        answer "second answer"."""
        raise NotImplementedError

    async def received(self, outcome: Outcome) -> Received:
        """What the model got for the only request of `outcome`."""
        raise NotImplementedError


class FakeRig(Rig):
    kind = "fake"

    def knob(self, name: str, value: object) -> None:
        self.environment[f"FAKE_CLI_{name}"] = str(value)

    def say(self, text: str, *, pace: float = 0, usage: Sequence[int] = (9, 2, 3, 5)) -> None:
        self.knob("TEXT", text)
        self.knob("DELAY", pace)
        self.knob("USAGE", ",".join(map(str, [*usage, 0])))

    def use_tool(self, name: str, command: str) -> None:
        self.knob("ANSWER", f"tool={name}")
        self.knob("COMMAND", command)

    def fail(self, kind: str) -> None:
        self.knob("ANSWER", kind)

    def stop(self, reason: str) -> None:
        self.knob("ANSWER", reason)
        self.knob("TEXT", "as far as ")

    def cut(self, tokens: int) -> None:
        self.knob("ANSWER", f"cut={tokens}")
        self.knob("TEXT", "second answer")

    async def received(self, outcome: Outcome) -> Received:
        echo = json.loads(outcome.text)
        return Received(echo["system"], [(role, blocks) for role, blocks in echo["messages"]])


class RealRig(Rig):
    kind = "real"

    def __init__(self, cli: Path, home: Path) -> None:
        super().__init__(cli, home)
        self.replies: list[Reply] = [Reply(text="answer")]
        self.model: LoopbackModel | None = None

    def serve(self, request: Request) -> Reply:
        """The script of its model."""
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]

    def connect(self, model: LoopbackModel) -> None:
        self.model = model
        self.environment |= environment(model.base_url, str(self.home))
        self.environment["CLAUDE_CODE_MAX_RETRIES"] = "0"

    def say(self, text: str, *, pace: float = 0, usage: Sequence[int] = (9, 2, 3, 5)) -> None:
        fresh, creation, read, output = usage
        used = Usage(input=fresh, output=output, cache_read=read, cache_creation=creation)
        self.replies = [Reply(text=text, pace=pace, usage=used)]

    def use_tool(self, name: str, command: str) -> None:
        call = {"command": command, "description": "a test"}
        self.replies = [Reply(tool=name, input=call), Reply(text="done")]

    def fail(self, kind: str) -> None:
        assert self.model is not None
        if kind.isdecimal():
            self.replies = [Reply(error=int(kind))]
        elif kind == "limit":
            self.replies = [Reply(limit=Limit("rejected"))]
            del self.environment["ANTHROPIC_API_KEY"]
            variables = environment(self.model.base_url, str(self.home), subscription=True)
            self.environment |= variables
        elif kind == "unreachable":
            # The discard port: nothing listens there.
            self.environment["ANTHROPIC_BASE_URL"] = "http://127.0.0.1:9"
        elif kind == "logged_out":
            del self.environment["ANTHROPIC_API_KEY"]
        else:
            assert kind == "too_long"
            words = "prompt is too long: 210000 tokens > 200000 maximum"
            self.replies = [Reply(error=Error(400, message=words))]

    def stop(self, reason: str) -> None:
        self.replies = [Reply(text="as far as ", stop_reason=reason)]

    def cut(self, tokens: int) -> None:
        # With a pace, because what is still in the socket when it is cut is lost.
        broken = Reply(text="one two three four", pace=0.3, cut=tokens)
        self.replies = [broken, Reply(text="second answer")]
        self.environment["CLAUDE_CODE_MAX_RETRIES"] = "1"

    async def received(self, outcome: Outcome) -> Received:
        assert self.model is not None
        assert self.model.count == 1
        body = self.model.requests[-1].body
        # The first two blocks are the CLI's own mark and a sentence that it cannot be denied.
        system = "\n\n".join(block["text"] for block in body.get("system", [])[2:])
        messages = [
            (message["role"], blocks)
            for message in body["messages"]
            if message["role"] != "system" and (blocks := shown(message["content"]))
        ]
        return Received(system, messages)


def shown(content: str | list[dict[str, Any]]) -> list[Block]:
    """The blocks of a message as in Received, without those that the CLI put in."""
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    blocks: list[Block] = []
    for block in content:
        if block["type"] == "image":
            blocks.append(["image", block["source"]["media_type"], block["source"]["data"]])
        elif not block["text"].startswith("<system-reminder>"):
            blocks.append(block["text"])
    return blocks


def write_fake(folder: Path) -> Path:
    """The fake CLI as one program to execute, with this interpreter at its quickest."""
    path = folder / "claude"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{FAKE_CLI}" "$@"\n')
    path.chmod(0o755)
    return path


def write_probed_fake(folder: Path, **knobs: str) -> Path:
    """The same with its knobs set inside, for a probe passes no environment on."""
    path = folder / "claude"
    sets = "".join(f"export FAKE_CLI_{k.upper()}={shlex.quote(v)}\n" for k, v in knobs.items())
    run = f'exec "{sys.executable}" -I -S "{FAKE_CLI}" "$@"\n'
    path.write_text(f"#!/bin/sh\nexport FAKE_CLI_UPSTREAM=1\n{sets}{run}")
    path.chmod(0o755)
    return path


def real_clis() -> dict[str, Path | None]:
    """The real CLIs to test with, by the name of their variant; None where it is not there."""
    found: dict[str, Path | None] = {}
    bundled = bundled_cli()
    found["real"] = bundled if bundled is not None and bundled.exists() else None
    if other := os.environ.get(OTHER_CLI):
        found["other"] = Path(other)
    return found


class Life:
    """A running worker: what it has said so far. Made by `start_worker`."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.readiness: Readiness | None = None
        self.ready = trio.Event()
        self.ended: Ended | None = None
        self.over = trio.Event()

    def on_ready(self, readiness: Readiness) -> None:
        self.readiness = readiness
        self.ready.set()

    async def live(self) -> None:
        self.ended = await self.worker.live(self.on_ready)
        self.ready.set()
        self.over.set()

    def assign(
        self, asked: Turn, length: float = 64, known: int = 0
    ) -> "trio.MemoryReceiveChannel[Any]":
        """Give it `asked`, of which it has the first `known` messages; return where the events
        come from."""
        outbox, inbox = trio.open_memory_channel[list[Event] | Fault](length)
        self.worker.assign_nowait(asked, outbox, known)
        return inbox

    async def answer(self, asked: Turn, known: int = 0) -> list[Event]:
        """All events of a turn. Raises the Fault that ended it."""
        events: list[Event] = []
        with trio.fail_after(60):
            async with self.assign(asked, known=known) as inbox:
                async for piece in inbox:
                    if isinstance(piece, Fault):
                        raise piece
                    events += piece
        return events

    async def wait_ended(self) -> Ended:
        await self.over.wait()
        assert self.ended is not None
        return self.ended


async def start_worker(nursery: trio.Nursery, launch: Launch) -> Life:
    """Start a worker; return when it is ready or has ended."""
    life = Life(Worker(launch))
    nursery.start_soon(life.live)
    await life.ready.wait()
    return life


async def run_turn(
    rig: Rig, asked: Turn, profile: Profile = CHAT, *, seconds: float = 60, **how: Any
) -> Outcome:
    """One worker for one turn. Fails if that takes more than `seconds`."""
    events: list[Event] = []
    fault: Fault | None = None
    with trio.fail_after(seconds):
        async with trio.open_nursery() as nursery:
            life = await start_worker(nursery, rig.launch(profile, **how))
            if life.ended is None:
                async with life.assign(asked) as inbox:
                    async for piece in inbox:
                        if isinstance(piece, Fault):
                            fault = piece
                        else:
                            events += piece
                if fault is None:
                    life.worker.kill_nowait()
            ended = await life.wait_ended()
    return Outcome(events, fault, life.readiness, ended)


def survivors(token: str | None = None) -> list[int]:
    """The processes that carry the marker of a worker of this test run, or have `token` in
    their command line; no zombies."""
    mark = f"{MARKER_OF_TESTS}/{os.getpid()}-"
    found = []
    for process in psutil.process_iter():
        try:
            if (token is not None and token in process.cmdline()) or process.environ().get(
                MARKER, ""
            ).startswith(mark):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Ask again and again, for what another process does and nobody tells."""
    with trio.fail_after(seconds):
        while not condition():
            await trio.lowlevel.checkpoint()
