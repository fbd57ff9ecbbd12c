"""OpenAI's own SDK before the real routes, with workers that say what a test tells them."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import msgspec
import openai
import trio

from maxd.daemon.catalog import Catalog
from maxd.daemon.conversations import Conversations
from maxd.daemon.keys import KeyRing
from maxd.daemon.lease import Lease
from maxd.daemon.quotas import Quotas
from maxd.daemon.settings import Server
from maxd.daemon.turns import Turns
from maxd.http.listeners import open_listeners
from maxd.http.serving import serve_http
from maxd.workers.profiles import BUILT_IN
from maxd.workers.turn import Event, Turn
from maxd.workers.worker import Outbox
from tests.daemon.stand_ins import AskedPool, IdleWorker, logger

if TYPE_CHECKING:
    from maxd.workers.faults import Fault

T = TypeVar("T")


class Talker(IdleWorker):
    """A worker without a process that says what it was told to."""

    def __init__(self, answer: "list[Event] | Fault", turns: list[Turn]) -> None:
        super().__init__()
        self.words = answer
        self.seen = turns

    def assign_nowait(
        self, turn: Turn, outbox: Outbox, known: int = 0, *, reset: bool = False
    ) -> None:
        self.seen.append(turn)
        outbox.send_nowait(self.words)
        outbox.close()


class Served:
    """The routes on a port of their own. `answer` is what the next turns bring, `turns` what the
    workers were given."""

    def __init__(self) -> None:
        self.answer: list[Event] | Fault = []
        self.turns: list[Turn] = []
        self.port = 0

    async def ask(self, ask: Callable[[openai.OpenAI], T]) -> T:
        """What `ask` makes of a client, in a thread."""

        def run() -> T:
            with openai.OpenAI(
                base_url=f"http://127.0.0.1:{self.port}/v1", api_key="x", max_retries=0, timeout=30
            ) as client:
                return ask(client)

        return await trio.to_thread.run_sync(run)


@asynccontextmanager
async def served(settings: Server | None = None) -> AsyncIterator[Served]:
    """The real routes over workers without processes."""
    front = Served()

    def grant(lease: Lease) -> None:
        lease.grant(Talker(front.answer, front.turns))

    log, _ = logger()
    turns = Turns(AskedPool(grant).as_pool, BUILT_IN, Conversations(), log)
    wanted = settings or Server()
    listeners = open_listeners(msgspec.structs.replace(wanted, port=0), {})
    front.port = listeners.main[0].getsockname()[1]
    shutdown = trio.Event()
    serve = partial(serve_http, wanted, listeners, "1", log, KeyRing({}), Quotas())
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, turns, Catalog({}), trio.Event(), shutdown)
        try:
            yield front
        finally:
            shutdown.set()
