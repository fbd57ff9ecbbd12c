"""How long a client waits for the status of a reply, and how it is kept waiting: pure.

A reply that is not streamed has its status when the turn has ended, which may take an agent many
minutes. `102 Processing`, sent meanwhile, starts the timers anew of clients that know it; others
take it for the reply. Measured: Node's fetch (v20) gives up after 300 s without it and
waits with it; httpx, and with it the Python SDKs, counts its read timeout from the last one; urllib
and requests return with status 102. Who is not known to need it is not told.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct

FETCH_SECONDS: Final = 240.0
"""For a fetch that cannot be told. Node's gives up after 300 s without a status."""

MARGIN_SECONDS: Final = 20.0
"""A reply is begun that long before its client would give up."""

_FORWARDED: Final = ("via", "forwarded", "x-forwarded-for", "x-forwarded-proto", "x-real-ip")
_SDK_LANGUAGE: Final = "x-stainless-lang"
_SDK_TIMEOUT: Final = "x-stainless-timeout"
"""In seconds. The JavaScript SDKs of OpenAI and Anthropic give up when they have had no status by
then; in the Python ones it is httpx's read timeout."""


class Patience(Struct, frozen=True):
    """`told`: whether `102 Processing` may be sent. `seconds`: how long the status may be held
    back; after that the reply is begun, and an error can only be told by breaking it off."""

    told: bool
    seconds: float = math.inf


def patience_of(headers: Iterable[tuple[bytes, bytes]], http_version: str) -> Patience:
    """What is known of the client by what it sends."""
    sent = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}
    agent = sent.get("user-agent", "").lower()
    # Behind a proxy the proxy is the client, and many know nothing of 1xx.
    direct = http_version == "1.1" and not any(name in sent for name in _FORWARDED)
    if agent.startswith("python-httpx/") or sent.get(_SDK_LANGUAGE) == "python":
        return Patience(told=direct)
    if "sec-fetch-mode" in sent:
        return Patience(told=direct, seconds=_fetch_seconds(sent, direct=direct))
    if agent.startswith("bun/") or sent.get(_SDK_LANGUAGE) == "js":
        # Fetches of another make: nobody knows how these take a 102.
        return Patience(told=False, seconds=_fetch_seconds(sent, direct=False))
    return Patience(told=False)


def _fetch_seconds(sent: Mapping[str, str], *, direct: bool) -> float:
    seconds = math.inf if direct else FETCH_SECONDS
    timeout = sent.get(_SDK_TIMEOUT, "")
    if timeout.isascii() and timeout.isdigit() and len(timeout) < 10:
        own = float(timeout)
        seconds = min(seconds, max(own / 2, own - MARGIN_SECONDS))
    return seconds
