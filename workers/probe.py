"""The probe: does a reset leave nothing of a conversation behind, with the CLI of this machine?

A worker may serve a second conversation only after a reset, and the CLI promises nothing about
what its `/clear` leaves. So this asks it, on a loopback model and with no login: conversations
whose every part holds a canary of its own, then a reset, and a look at what the next one sends.
"""

import base64
import secrets
import struct
import tempfile
import zlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

import trio
from msgspec import Struct

from maxd.workers.faults import Fault
from maxd.workers.launch import Launch
from maxd.workers.leaks import Leak, additions, check_request, holds
from maxd.workers.loopback import LoopbackModel, Reply, Request, environment, serve_loopback_model
from maxd.workers.profiles import CHAT
from maxd.workers.tree import make_environment
from maxd.workers.turn import Event, Finished, Image, Message, Text, Turn
from maxd.workers.worker import Readiness, Worker

PROBE_VERSION: Final = 1
"""Goes up whenever the probe finds more than before: what passed an older one has to pass again."""

PROBE_SECONDS: Final = 24.0
"""Seconds until the probe gives up; killing the worker may take 5 more. On an idle machine of two
cores the whole of it takes about one and a half."""

MODEL: Final = "sonnet"
NICE: Final = 10
# What a program needs to run. All else may lead to the user's login, settings or proxy.
PASSED_ON: Final = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TERM")


class ResetProbe(Struct, frozen=True):
    """What the probe found. `reason` says why it did not pass, and holds nothing of any
    conversation; empty if it did. `version` is the CLI's; empty if it never told."""

    passed: bool
    reason: str
    version: str


async def probe_reset(cli: Path, environment: Mapping[str, str]) -> ResetProbe:
    """Try resets with the CLI at `cli`, at low priority; never raises.

    Of `environment` only what a program needs to run is passed on: no login, no setting of the
    user's. Takes 30 s at most. However it ends, also when cancelled, no process and no file of
    it is left.
    """
    probe = _Probe()
    reason = f"the probe was not through after {PROBE_SECONDS:.0f} s"
    try:
        # Removed when the worker's tree is gone; a few small files.
        with tempfile.TemporaryDirectory(prefix="maxd-probe-", ignore_cleanup_errors=True) as home:
            with trio.move_on_after(PROBE_SECONDS):
                reason = await probe.run(cli, environment, home)
    except Exception as error:
        # Whatever it is (no disk, no descriptor, a request of another form): it is no pass, and the
        # verdict says so.
        # Never its words: they may quote a path or a request.
        reason = f"the probe itself failed: {type(error).__name__}"
    return ResetProbe(not reason, reason, probe.version)


class _Probe:
    """One worker, what it is asked, and the canaries so far."""

    def __init__(self) -> None:
        self.version = ""
        self._canaries: list[str] = []
        self._system = f"Be brief {secrets.token_hex(8)}."
        self._usual: set[str] = set()
        self._turns = 0
        self._ready = trio.Event()
        self._failed: Fault | None = None
        self._model: LoopbackModel
        self._worker: Worker

    async def run(self, cli: Path, inherited: Mapping[str, str], home: str) -> str:
        """Why it did not pass; empty if it did."""
        async with trio.open_nursery() as nursery:
            self._model = await nursery.start(
                partial(serve_loopback_model, script=self._reply, keep=16)
            )
            variables = {name: inherited[name] for name in PASSED_ON if name in inherited}
            variables |= environment(self._model.base_url, home)
            marker = f"probe-{secrets.token_hex(8)}/reset"
            launch = Launch(
                id="reset probe",
                cli=str(cli),
                profile=CHAT,
                model=MODEL,
                directory=home,
                environment=make_environment(variables | {"TMPDIR": home}, marker),
                marker=marker,
                start_seconds=PROBE_SECONDS,
                nice=NICE,
            )
            self._worker = Worker(launch)
            nursery.start_soon(self._live)
            try:
                await self._converse()
                reason = ""
            except (Leak, Fault) as failure:
                reason = str(failure)
            nursery.cancel_scope.cancel()
        return reason

    async def _live(self) -> None:
        def on_ready(readiness: Readiness) -> None:
            self.version = readiness.version
            self._ready.set()

        self._failed = (await self._worker.live(on_ready)).fault
        self._ready.set()

    def _reply(self, _request: Request) -> Reply:
        return Reply(text=f"Said {self._word()}.")

    def _word(self) -> str:
        """A new canary."""
        self._canaries.append(secrets.token_hex(8))
        return self._canaries[-1]

    async def _converse(self) -> None:
        """All the conversations. Raises Leak or the Fault of the worker."""
        await self._ready.wait()
        if self._failed is not None:
            raise self._failed
        first = (self._user("Hello"),)
        request = await self._ask(first)
        self._usual = additions(request, self._system, first)
        picture = _picture()
        self._canaries.append(picture.data)
        second = Message("user", (*self._user("Look").parts, picture))
        told = tuple(self._canaries)
        request = await self._ask((*first, Message("assistant", (Text("Hello"),)), second), known=2)
        # Or a canary that is gone would prove nothing.
        if not all(holds(request, [canary]) for canary in told):
            raise Leak("a conversation did not arrive whole even without a reset")
        await self._ask_after_reset("Hello")
        await self._ask_after_reset("Hello")
        await self._ask_after_reset("One", "Two", "Three", "Four", "/help me with")
        await self._ask_after_reset("/clear")
        if self._model.count != self._turns:
            raise Leak("the model was asked more often than there were turns")

    async def _ask_after_reset(self, *words: str) -> None:
        """Reset the worker, then a conversation of these messages by turns; look at its request."""
        earlier = tuple(self._canaries)
        messages = [self._user(each) for each in words]
        for index in range(1, len(messages), 2):
            messages[index] = Message("assistant", messages[index].parts)
        request = await self._ask(tuple(messages), reset=True)
        check_request(request, self._system, messages, earlier, self._usual)

    async def _ask(
        self, messages: tuple[Message, ...], *, known: int = 0, reset: bool = False
    ) -> Request:
        """One turn; the request that it made of the model."""
        turn = Turn(profile=CHAT.name, model=MODEL, messages=messages, system=(self._system,))
        outbox, inbox = trio.open_memory_channel[list[Event] | Fault](64)
        self._worker.assign_nowait(turn, outbox, known, reset=reset)
        finished = False
        async with inbox:
            async for piece in inbox:
                if isinstance(piece, Fault):
                    raise piece
                finished = isinstance(piece[-1], Finished)
        if not finished:
            raise Leak("the worker ended in the middle of a turn")
        self._turns += 1
        if self._model.count != self._turns:
            raise Leak("the model was not asked exactly once for a turn")
        return self._model.requests[-1]

    def _user(self, words: str) -> Message:
        return Message("user", (Text(f"{words} {self._word()}"),))


def _picture() -> Image:
    """A picture of eight by eight random pixels: a canary that is no text."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
    rows = b"".join(b"\0" + secrets.token_bytes(24) for _ in range(8))
    data = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return Image("image/png", base64.b64encode(data).decode())
