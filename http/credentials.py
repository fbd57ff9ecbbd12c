"""Who a request comes from: the API key it carries, whatever header carries it."""

import hashlib
from collections.abc import Iterable, Mapping

from msgspec import Struct

from maxd.daemon.keys import KeyRing
from maxd.http.front import normal_path
from maxd.workers.faults import Unauthorized

DASHBOARD = frozenset({"/", "/dashboard.js", "/dashboard.css", "/dashboard.svg"})
"""The files of the dashboard, which say nothing of this daemon."""

OPEN_PATHS = frozenset({"/health"}) | DASHBOARD
"""Answered without a key: a load balancer has none, and a browser that opens a page sends none.
The dashboard asks for it, and sends it for what it shows."""

NEEDED = "this server needs an API key, as `Authorization: Bearer KEY` or `x-api-key: KEY`"


class Client(Struct, frozen=True):
    """`scope` tells clients apart and holds nothing of a key but its hash: the conversations of one
    are none of another's. `key` is the name of the key, None where none is needed."""

    scope: str
    key: str | None = None


def identify(ring: KeyRing, path: str, headers: Iterable[tuple[bytes, bytes]]) -> Client:
    """Who this is. Raises Unauthorized where a key is needed and this is none, or more than one.

    Names in `headers` are lower case. Where no key is needed any is taken for a name.
    """
    presented = _presented(headers)
    if not ring or normal_path(path) in OPEN_PATHS:
        return Client(_scope(b"\0".join(sorted(set(presented)))))
    if len(presented) != 1 or not presented[0] or not presented[0].isascii():
        raise Unauthorized(NEEDED)
    name = ring.find(presented[0])
    if name is None:
        raise Unauthorized(NEEDED)
    return Client(_scope(presented[0]), name)


def client_of(state: Mapping[str, object]) -> Client:
    """The client that the guard has found, from a request's ASGI state."""
    client = state.get("client")
    return client if isinstance(client, Client) else Client(_scope(b""))


def _presented(headers: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    """Each key that was sent; one that both headers carry (the SDKs do that) counts once, but a
    header that comes twice has two readings."""
    seen: dict[bytes, list[bytes]] = {b"authorization": [], b"x-api-key": []}
    for name, value in headers:
        if name in seen:
            seen[name].append(value.strip())
    bearer = [_token(value) for value in seen[b"authorization"]]
    keys = seen[b"x-api-key"]
    if len(bearer) == 1 and bearer == keys:
        return bearer
    return bearer + keys


def _token(value: bytes) -> bytes:
    scheme, _, token = value.partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else value


def _scope(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()[:16]
