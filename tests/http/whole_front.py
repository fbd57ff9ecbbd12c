"""The whole front on free ports, with every part that has routes, and what it says to bytes."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import trio

from maxd.daemon.backend import Backend
from maxd.daemon.catalog import Catalog
from maxd.daemon.chronicle import Chronicle
from maxd.daemon.conversations import Conversations
from maxd.daemon.feature_verdicts import FeatureVerdicts
from maxd.daemon.keys import KeyRing
from maxd.daemon.metrics import Metrics
from maxd.daemon.observer import Observers
from maxd.daemon.overview import Overview
from maxd.daemon.pool import Pool
from maxd.daemon.probes import Probes
from maxd.daemon.quotas import Quotas
from maxd.daemon.settings import Config, Server
from maxd.daemon.slots import Key, Limits
from maxd.daemon.turns import Turns
from maxd.daemon.worker_usage import WorkerUsage
from maxd.http.app import Service, make_app
from maxd.http.listeners import open_listeners
from maxd.http.quota_headers import Meter
from maxd.http.replying import Settings
from maxd.http.serving import serve_http
from maxd.workers.launch import Launch
from maxd.workers.profiles import BUILT_IN
from tests.daemon.stand_ins import AskedPool, logger
from tests.http.mutations import HOST, JSON

NO_KEYS = KeyRing({})
BODY = b"Content-Length: 2\r\n\r\n{}"
END = b"\r\n"
LIMITS = Limits(
    max_workers=1,
    max_starting=1,
    spares=0,
    warm=(),
    warm_seconds=1.0,
    queue_length=1,
    queue_seconds=1.0,
)


class Reply(NamedTuple):
    """Names in `head` are lower case; `body` is empty where its length was not told."""

    status: int
    head: bytes
    body: bytes


@asynccontextmanager
async def site(ring: KeyRing = NO_KEYS, **settings: Any) -> AsyncIterator[int]:
    """The port of a front whose pool starts nothing: no request here may get as far as a turn."""
    server = Server(**{"port": 0, **settings})
    log, _ = logger()
    pool = Pool(LIMITS, _no_worker, log)
    turns = Turns(pool, BUILT_IN, Conversations(), log)
    chronicle, metrics = Chronicle(), Metrics()
    overview = Overview(
        config=Config,
        pool=pool,
        turns=turns,
        backend=Backend("", {}, log),
        probes=Probes(Path("/nonexistent"), {}, log),
        features=FeatureVerdicts(Path("/nonexistent"), {}, log),
        chronicle=chronicle,
        metrics=metrics,
        observer=Observers(chronicle, metrics),
        usage=WorkerUsage(),
    )
    listeners = open_listeners(server, {})
    shutdown = trio.Event()
    serve = partial(
        serve_http,
        server,
        listeners,
        "0",
        log,
        ring,
        Quotas(),
        turns,
        Catalog({}),
        overview=overview,
    )
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(serve, trio.Event(), shutdown)
            yield listeners.main[0].getsockname()[1]
            shutdown.set()
    listeners.close()


def _no_worker(worker: str, key: Key, session: str | None) -> Launch:
    raise AssertionError(key)


def request(method: str, path: str, headers: bytes = HOST) -> bytes:
    """One that is well formed but for its `headers`."""
    body = JSON + BODY if method in ("POST", "PUT", "PATCH") else END
    return f"{method} {path} HTTP/1.1\r\n".encode() + headers + body


async def exchange(port: int, data: bytes) -> Reply:
    """The reply to `data` on a connection of its own."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        return await talk(stream, data)


async def talk(stream: trio.SocketStream, data: bytes) -> Reply:
    """The reply to `data`."""
    await stream.send_all(data)
    return await hear(stream, has_body=not data.startswith(b"HEAD "))


async def hear(stream: trio.SocketStream, *, has_body: bool = True) -> Reply:
    """The next reply. The connection stays open: a client that goes away gets no answer, and the
    stream of the dashboard does not end by itself."""
    told = b""
    while b"\r\n\r\n" not in told:
        told += await _more(stream)
    head, _, body = told.partition(b"\r\n\r\n")
    head = head.lower()
    length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
    while has_body and len(body) < length:
        body += await _more(stream)
    return Reply(int(head.split()[1]), head, body[:length])


async def _more(stream: trio.SocketStream) -> bytes:
    part = await stream.receive_some()
    assert part, "closed before the end of a reply"
    return part


def routes() -> Iterator[tuple[str, str]]:
    """Method and path of all routes; a part that varies becomes `x`."""
    catalog = Catalog({})
    log, _ = logger()
    service = Service(
        turns=Turns(AskedPool().as_pool, BUILT_IN, Conversations(), log),
        find_model=catalog.find,
        offered_models=catalog.offered,
        searches=lambda profile: True,
        replies=None,
        # Only asked for when a page of it is.
        overview=cast("Overview", object()),
        version="0",
        meter=Meter(NO_KEYS, Quotas()),
    )
    settings = Settings(max_body_bytes=1024, heartbeat_seconds=1, hold_status_seconds=1)
    app = make_app(service, settings)
    for rule in app.url_map.iter_rules():
        path = rule.rule
        for argument in rule.arguments:
            path = path.replace(f"<{argument}>", "x").replace(f"<path:{argument}>", "x")
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            yield method, path


ROUTES = sorted(set(routes()))
