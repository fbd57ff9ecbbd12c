"""The table of errors in docs/api.md, made of the faults themselves."""

import inspect
from collections.abc import Iterator

from maxd.http.error_headers import LONGEST_RETRY_SECONDS
from maxd.http.openai_errors import type_of
from maxd.workers import faults
from maxd.workers.faults import Fault, UsageLimit

# Each is told to clients as what it is a kind of.
_BLAME = {
    "client": "the client",
    "ours": "maxd",
    "worker": "the CLI",
    "upstream": "the service",
}


def all_faults() -> list[type[Fault]]:
    """Every kind of fault, by status and in the order in which they are written."""
    found: list[type[Fault]] = [Fault, *_below(Fault)]
    return sorted(dict.fromkeys(found), key=lambda kind: kind.status)


def markdown_table() -> str:
    """A row for each kind of fault, as OpenAI's dialect tells it."""
    rows = [
        "| status | `code` | `type` | whose | what | `Retry-After` | retry |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for kind in all_faults():
        code = "" if kind.code is None else f"`{kind.code}`"
        cells = [
            str(kind.status),
            code,
            f"`{type_of(kind.status)}`",
            _BLAME[kind.blame],
            _meaning(kind),
            _wait(kind),
            "yes" if kind.retry else "no",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _below(kind: type[Fault]) -> Iterator[type[Fault]]:
    for each in kind.__subclasses__():
        if each.__module__ == faults.__name__:
            yield each
            yield from _below(each)


def _meaning(kind: type[Fault]) -> str:
    if kind is Fault:
        return "maxd itself failed."
    first = (inspect.getdoc(kind) or "").split("\n\n")[0]
    return " ".join(first.split())


def _wait(kind: type[Fault]) -> str:
    if kind is UsageLimit:
        return f"until the reset; no retry past {LONGEST_RETRY_SECONDS} s"
    return "" if kind.retry_after is None else f"{kind.retry_after:g} s"
