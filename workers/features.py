"""The probes of what maxd relies on: tried with the CLI of this machine, for no tokens.

The protocol between the CLI and its parent changes from version to version. Each probe does on a
loopback model, without a login, what the daemon does with the real one, and looks at what reached
the model. `probe.py` has the one for resets, which is asked before every use of it.
"""

import json
import secrets
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import trio
from msgspec import Struct
from msgspec.structs import replace

from maxd.workers.cli import Login
from maxd.workers.faults import Fault, first_leaf
from maxd.workers.functions import PREFIX
from maxd.workers.launch import Launch
from maxd.workers.leaks import Leak
from maxd.workers.loopback import LoopbackModel, Reply, environment, serve_loopback_model
from maxd.workers.loopback.reply import ToolUseBlock
from maxd.workers.probe import MODEL, NICE, PASSED_ON, probe_reset
from maxd.workers.profiles import AGENT, CHAT, Profile
from maxd.workers.sessions import projects_directory, transcript_path, wait_written
from maxd.workers.tree import make_environment
from maxd.workers.turn import (
    CallStarted,
    Event,
    Finished,
    Function,
    Message,
    Text,
    TextDelta,
    ToolCall,
    ToolResult,
    Turn,
)
from maxd.workers.worker import Readiness, Worker

FEATURES_VERSION: Final = 1
"""Goes up whenever a probe finds more than before."""

FEATURE_SECONDS: Final = 60.0
"""Seconds until one probe gives up. On an idle machine of two cores each takes about one, beside
ten busy programs one took 24; nothing waits for it."""

SYSTEM: Final = "Be brief."


WRITTEN_SECONDS: Final = 5.0


class Finding(Struct, frozen=True):
    """What one probe found. `reason` says why it did not pass and holds nothing of anybody's;
    empty if it did. `switches_off` says what is not tried then, or that
    nothing is switched off."""

    name: str
    passed: bool
    reason: str
    switches_off: str


class Bench:
    """A CLI, a home without a login, and a loopback model that answers as it is told to."""

    def __init__(self, cli: Path, inherited: Mapping[str, str], home: str) -> None:
        self._cli = cli
        self._inherited = inherited
        self.home = home
        self._replies: list[Reply] = []
        self.model: LoopbackModel

    async def serve(self, nursery: trio.Nursery) -> None:
        serve = partial(serve_loopback_model, script=lambda request: self._next(), keep=16)
        self.model = await nursery.start(serve)

    @property
    def projects(self) -> Path:
        """Where the CLI keeps its sessions."""
        return projects_directory(Login(state="unknown"), self._variables())

    def _variables(self) -> dict[str, str]:
        passed = {name: value for name, value in self._inherited.items() if name in PASSED_ON}
        return passed | environment(self.model.base_url, self.home) | {"TMPDIR": self.home}

    def will_say(self, *replies: Reply) -> None:
        self._replies += replies

    def _next(self) -> Reply:
        return self._replies.pop(0) if self._replies else Reply(text="Nothing more.")

    def spoken(self) -> list[tuple[str, str]]:
        """Role and content, as JSON, of the messages of the last request to the model."""
        if not self.model.requests:
            raise Leak("the model was never asked")
        messages = self.model.requests[-1].body["messages"]
        return [(m["role"], json.dumps(m["content"])) for m in messages if m["role"] != "system"]

    @asynccontextmanager
    async def worker(self, profile: Profile, resume: str | None = None) -> AsyncIterator[Worker]:
        """A worker that is ready; killed at the end. Raises the Fault with which it did not get
        ready."""
        marker = f"probe-{secrets.token_hex(8)}/feature"
        worker = Worker(
            Launch(
                id="feature probe",
                cli=str(self._cli),
                profile=profile,
                model=MODEL,
                directory=self.home,
                environment=make_environment(self._variables(), marker),
                marker=marker,
                start_seconds=FEATURE_SECONDS,
                resume=resume,
                nice=NICE,
            )
        )
        ready = trio.Event()
        failed: list[Fault] = []

        def on_ready(readiness: Readiness) -> None:
            ready.set()

        async def live() -> None:
            ended = await worker.live(on_ready)
            if ended.fault is not None:
                failed.append(ended.fault)
            ready.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(live)
            await ready.wait()
            if failed:
                raise failed[0]
            yield worker
            worker.kill_nowait()


async def answer(worker: Worker, turn: Turn, known: int = 0) -> list[Event]:
    """All events of a turn. Raises the Fault that ended it, or Leak."""
    outbox, inbox = trio.open_memory_channel[list[Event] | Fault](64)
    worker.assign_nowait(turn, outbox, known)
    events: list[Event] = []
    async with inbox:
        async for piece in inbox:
            if isinstance(piece, Fault):
                raise piece
            events += piece
    if not events or not isinstance(events[-1], Finished):
        raise Leak("the worker ended in the middle of a turn")
    return events


def text_of(events: Sequence[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def user(text: str) -> Message:
    return Message("user", (Text(text),))


def assistant(text: str) -> Message:
    return Message("assistant", (Text(text),))


def asking(*messages: Message, **more: Any) -> Turn:
    return Turn(profile=CHAT.name, model=MODEL, messages=messages, system=(SYSTEM,), **more)


async def bind(bench: Bench) -> None:
    """A process that waited unbound takes its system message and question over stdin."""
    bench.will_say(Reply(text="Hello."))
    async with bench.worker(CHAT) as worker:
        if text_of(await answer(worker, asking(user("Hi")))) != "Hello.":
            raise Leak("the model's answer did not arrive as it was given")
        if SYSTEM not in json.dumps(bench.model.requests[-1].body.get("system")):
            raise Leak("the system message did not reach the model")


async def history(bench: Bench) -> None:
    """A process is given a history as real messages, with one request upstream."""
    bench.will_say(Reply(text="Four."))
    told = [user("One?"), assistant("First."), user("Two?"), assistant("Second."), user("Three?")]
    async with bench.worker(CHAT) as worker:
        await answer(worker, asking(*told))
    if bench.model.count != 1:
        raise Leak("the model was not asked exactly once")
    spoken = bench.spoken()
    if [role for role, _ in spoken] != [message.role for message in told]:
        raise Leak("the messages did not arrive one by one")
    for (_, content), message in zip(spoken, told, strict=True):
        if not all(isinstance(part, Text) and part.text in content for part in message.parts):
            raise Leak("a message did not arrive as written")


async def functions(bench: Bench) -> None:
    """A client's function is called natively, waits, and its result goes back."""
    bench.will_say(
        Reply(blocks=(ToolUseBlock(PREFIX + "clock", {"zone": "UTC"}),)), Reply(text="Noon.")
    )
    clock = Function("clock", "Tells the time.", '{"type":"object"}')
    asked = asking(user("What time is it?"), functions=(clock,))
    async with bench.worker(CHAT) as worker:
        calls = [e for e in await answer(worker, asked) if isinstance(e, CallStarted)]
        if [call.name for call in calls] != ["clock"]:
            raise Leak("the call of a function was not told")
        called = Message("assistant", (ToolCall(calls[0].id, "clock", '{"zone":"UTC"}'),))
        result = Message("user", (ToolResult(calls[0].id, (Text("12:00"),)),))
        more = replace(asked, messages=(*asked.messages, called, result))
        if text_of(await answer(worker, more, known=2)) != "Noon.":
            raise Leak("after the result of a function no answer came")
    if "12:00" not in bench.spoken()[-1][1] or bench.model.count != 2:
        raise Leak("the result of a function did not reach the model")


async def schema(bench: Bench) -> None:
    """An answer has the form of a JSON schema."""
    bench.will_say(Reply(blocks=(ToolUseBlock("StructuredOutput", {"a": 1}),)))
    shape = '{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]}'
    async with bench.worker(CHAT) as worker:
        events = await answer(worker, asking(user("Go"), schema=shape))
        if json.loads(text_of(events) or "null") != {"a": 1}:
            raise Leak("an answer of a schema did not arrive as it was given")


async def resume(bench: Bench) -> None:
    """A new process goes on with the session of one that is gone."""
    bench.will_say(Reply(text="Noted."), Reply(text="It was blue."))
    first = replace(asking(user("Remember: blue.")), profile=AGENT.name)
    async with bench.worker(AGENT) as worker:
        await answer(worker, first)
        session, line = worker.record.session, worker.record.last_line
        if session is None or line is None:
            raise Leak("no session was kept")
        # Written up to 0.3 s after the turn; its end is what a resume is checked by.
        path = transcript_path(bench.projects, bench.home, session)
        if not await wait_written(path, line, trio.current_time() + WRITTEN_SECONDS):
            raise Leak("the session was not written to where it is looked for")
    again = replace(first, messages=(*first.messages, assistant("Noted."), user("What was it?")))
    async with bench.worker(AGENT, session) as worker:
        await answer(worker, again, known=2)
    if not any("Remember: blue." in content for _, content in bench.spoken()):
        raise Leak("a resumed session did not hold what was said before")


Probe: TypeAlias = Callable[[Bench], Awaitable[None]]
PROBES: Final[tuple[tuple[str, Probe, str], ...]] = (
    (
        "bind",
        bind,
        "nothing, not for the other probes either: turns fail with errors of their own",
    ),
    (
        "history",
        history,
        "the import of histories: a request whose conversation no live worker holds gets 501",
    ),
    (
        "functions",
        functions,
        "clients' functions: a request with tools or their calls gets 501",
    ),
    ("schema", schema, "answers of a JSON schema: a request for one gets 501"),
    (
        "resume",
        resume,
        "the CLI's sessions on disk: agents forget their tool work when their worker is gone",
    ),
)
"""Each with its name and what is switched off where it fails."""

RESET: Final = ("reset", "the reuse of workers: each new conversation takes a new process")


async def probe_features(
    cli: Path, environment: Mapping[str, str], *, reset: bool = True
) -> list[Finding]:
    """Try all of it, one after the other at low priority; never raises. `reset` includes the probe
    of resets. However it ends, also when cancelled, no process and no file of it is left."""
    found = [
        await try_probe(name, probe, switches_off, cli, environment)
        for name, probe, switches_off in PROBES
    ]
    if reset:
        verdict = await probe_reset(cli, environment)
        name, switches_off = RESET
        found.append(Finding(name, verdict.passed, verdict.reason, switches_off))
    return found


async def try_probe(
    name: str, probe: Probe, switches_off: str, cli: Path, inherited: Mapping[str, str]
) -> Finding:
    reason = f"it was not through after {FEATURE_SECONDS:.0f} s"
    try:
        with tempfile.TemporaryDirectory(prefix="maxd-probe-", ignore_cleanup_errors=True) as home:
            with trio.move_on_after(FEATURE_SECONDS):
                reason = await _run(probe, Bench(cli, inherited, home))
    except Exception as error:
        # Whatever it is, it is no pass, and the finding says so. Never its words: they may quote a
        # path or a request.
        reason = f"the probe itself failed: {type(error).__name__}"
    return Finding(name, not reason, reason, switches_off)


async def _run(probe: Probe, bench: Bench) -> str:
    reason = ""
    try:
        async with trio.open_nursery() as nursery:
            await bench.serve(nursery)
            await probe(bench)
            nursery.cancel_scope.cancel()
    except* (Leak, Fault) as group:
        reason = str(first_leaf(group))
    return reason
