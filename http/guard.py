"""Which requests may be looked at at all: decided from the header alone, before any routing.

A web page that the user has open must not reach an agent with a shell. Browsers tell where a
request comes from (Host, Origin, Sec-Fetch-Site) and cannot send JSON across origins without
asking first, so these four checks keep every page out, a rebound DNS name included.
"""

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import unquote_plus

from msgspec import Struct

from maxd.workers.faults import BadRequest, Fault, Forbidden, TooLarge

if TYPE_CHECKING:
    from hypercorn.typing import ASGIFramework, ASGIReceiveCallable, ASGISendCallable, Scope

Headers: TypeAlias = list[tuple[bytes, bytes]]
Reply: TypeAlias = tuple[int, Headers, bytes]
"""A whole reply: status, headers, body. A missing content-length is added when it is sent."""

Render: TypeAlias = Callable[[Fault], Reply]
"""Writes a fault in the shape a client expects."""

CHALLENGE = (b"www-authenticate", b'Bearer realm="maxd"')
"""With every 401 (RFC 9110, 11.6.1)."""

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})

# What a Host may look like (RFC 9110, 7.2): no user info, no path, nothing to misread.
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::[0-9]{1,5})?", re.ASCII)
_ABSOLUTE = re.compile(r"http://(?P<authority>[^/?#]*)", re.ASCII | re.IGNORECASE)
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
# A key in a URL ends up in histories and logs.
_KEYS_IN_QUERY = frozenset({"token", "access_token", "api_key", "api-key", "apikey", "key"})


class Policy(Struct, frozen=True, kw_only=True):
    """What is allowed beyond the rules that always hold.

    `hosts`: names (lower case, without port) besides the loopback names under which this server
    is addressed. `origins`: web origins that may send requests, as `http://name:port`.
    `body_bytes`: the largest body that is begun to be read.
    """

    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()
    body_bytes: int = 64 * 1024 * 1024


def check(
    policy: Policy,
    *,
    method: str,
    path: bytes,
    query: bytes,
    headers: Iterable[tuple[bytes, bytes]],
) -> None:
    """Raise the fault for which this request is refused, or return.

    `path` is the request target up to the `?`, `query` what follows it, both as sent; names in
    `headers` are lower case. Raises Forbidden, TooLarge or BadRequest (400, 415). No fault
    repeats anything of the request.
    """
    named: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        named.setdefault(name, []).append(value.strip())
    _check_host(policy, method, path, named.get(b"host", []))
    _check_origin(policy, named.get(b"origin", []), named.get(b"sec-fetch-site", []))
    _check_query(query)
    _check_body(policy, method, named)


def _check_host(policy: Policy, method: str, path: bytes, hosts: list[bytes]) -> None:
    if len(hosts) != 1 or not hosts[0]:
        raise BadRequest("A request needs exactly one Host header.")
    host = hosts[0].decode("latin-1").lower()
    match = _HOST.fullmatch(host)
    if match is None:
        raise BadRequest("The Host header is malformed.")
    if match["name"] not in LOOPBACK_HOSTS and match["name"] not in policy.hosts:
        raise Forbidden("This server is not addressed by that host name.")
    if path.startswith(b"/") or (path == b"*" and method == "OPTIONS"):
        return
    absolute = _ABSOLUTE.match(path.decode("latin-1"))
    if absolute is None:
        raise BadRequest("The request target is neither a path nor an http URL.")
    if absolute["authority"].lower() != host:
        raise BadRequest("The request target and the Host header disagree.")


def _check_origin(policy: Policy, origins: list[bytes], sites: list[bytes]) -> None:
    if origins:
        if len(origins) > 1 or origins[0].decode("latin-1").lower() not in policy.origins:
            raise Forbidden("Web pages of this origin may not use this server.")
    elif any(site.lower() == b"cross-site" for site in sites):
        # Browsers send GETs without CORS, and navigations, without Origin. Node's fetch sends
        # Sec-Fetch-Mode but no Sec-Fetch-Site, so it passes.
        raise Forbidden("Web pages of other sites may not use this server.")


def _check_query(query: bytes) -> None:
    for field in query.decode("latin-1").replace(";", "&").split("&"):
        if unquote_plus(field.partition("=")[0]).strip().lower() in _KEYS_IN_QUERY:
            raise BadRequest("A key belongs into the Authorization header, never into the URL.")


def _check_body(policy: Policy, method: str, named: dict[bytes, list[bytes]]) -> None:
    lengths = named.get(b"content-length", [])
    if any(not length.isdigit() for length in lengths):
        raise BadRequest("The Content-Length header is malformed.")
    # 20 digits hold every length there is; int() refuses some thousands of them.
    length = max((int(digits[:20]) for digits in lengths), default=0)
    if method not in _WITH_BODY:
        # Nothing here reads the body of a GET, so it would only pile up.
        if length or b"transfer-encoding" in named:
            raise BadRequest("A request of this method cannot have a body.")
        return
    types = named.get(b"content-type", [])
    if len(types) != 1 or types[0].partition(b";")[0].strip().lower() != b"application/json":
        raise BadRequest(
            "The content type must be application/json.",
            status=415,
            code="unsupported_media_type",
        )
    if length > policy.body_bytes:
        raise TooLarge(f"The body is over the limit of {policy.body_bytes} bytes.")


def reply_headers(reply: Reply) -> Headers:
    """The headers of `reply`, with its content-length."""
    _, headers, body = reply
    if any(name.lower() == b"content-length" for name, _ in headers):
        return headers
    return [*headers, (b"content-length", str(len(body)).encode())]


async def send_reply(send: "ASGISendCallable", reply: Reply) -> None:
    """Send a whole reply. Raises and is cancelled as `send` is."""
    status, _, body = reply
    headers = reply_headers(reply)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


class Guarded:
    """An ASGI app that sees only the requests that pass `check`, and then `admit`, which is given
    the scope; for the others one of them raises.

    It wraps the app rather than hooking into it, so that unknown routes and wrong methods are
    guarded too.
    """

    def __init__(
        self,
        app: "ASGIFramework",
        policy: Policy,
        admit: "Callable[[Scope], None]" = lambda scope: None,
    ) -> None:
        self._app = app
        self._policy = policy
        self._admit = admit

    async def __call__(
        self, scope: "Scope", receive: "ASGIReceiveCallable", send: "ASGISendCallable"
    ) -> None:
        if scope["type"] == "http":
            check(
                self._policy,
                method=scope["method"],
                path=scope["raw_path"],
                query=scope["query_string"],
                headers=scope["headers"],
            )
            self._admit(scope)
        await self._app(scope, receive, send)
