"""The headers with which every dialect tells a fault: its SDKs decide by them what to try again."""

import math
from typing import Final

from maxd.http.guard import CHALLENGE, Headers
from maxd.workers.faults import Fault

LONGEST_RETRY_SECONDS: Final = 60
"""The SDKs sleep through a long Retry-After or hammer on; past this they are told not to retry."""


def error_headers(fault: Fault, body: bytes) -> Headers:
    """Those of a reply whose `body` tells `fault`."""
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    wait = fault.retry_after
    if wait is not None:
        headers.append((b"retry-after", str(max(1, math.ceil(wait))).encode()))
    if fault.status == 401:
        headers.append(CHALLENGE)
    if not fault.retry or (wait is not None and wait > LONGEST_RETRY_SECONDS):
        headers.append((b"x-should-retry", b"false"))
    return headers
