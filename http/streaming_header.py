"""The streaming mode that a request asks for, and the refusal of headers that ask for rights.

A profile's rights are fixed when its processes start. A header that seems to change them would be
ignored, and its sender would take that for consent: it is refused instead.
"""

from collections.abc import Iterable

from maxd.daemon.release import HEADER, parse_mode
from maxd.http.wishes import REASONING, STRICT
from maxd.workers.faults import Forbidden
from maxd.workers.profiles import Streaming

_PREFIX = "x-maxd-"
_OTHERS = frozenset((STRICT.lower(), REASONING.lower()))


def streaming_of(headers: Iterable[tuple[str, str]]) -> Streaming | None:
    """The streaming mode that the request asks for, if it does. Raises BadRequest for a mode that
    does not exist or is named twice, Forbidden for any other header that begins with `X-Maxd-`."""
    found: list[str] = []
    for name, value in headers:
        lower = name.lower()
        if lower == HEADER.lower():
            found.append(value)
        elif lower.startswith(_PREFIX) and lower not in _OTHERS:
            shown = name[:64]
            raise Forbidden(
                f"{shown} is no header of this server. What a profile may do is set in its "
                "configuration; no request can change that.",
                param=shown,
            )
    return parse_mode(", ".join(found)) if found else None
