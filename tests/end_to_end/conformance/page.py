"""The conformance page, made of the checks: `python -m tests.end_to_end.conformance.page`."""

from collections.abc import Iterator
from pathlib import Path

from tests.end_to_end.conformance.chat import CHAT
from tests.end_to_end.conformance.checks import Dialect
from tests.end_to_end.conformance.messages import MESSAGES
from tests.end_to_end.conformance.responses import RESPONSES

DIALECTS = (CHAT, MESSAGES, RESPONSES)
PAGE = Path(__file__).parents[3] / "docs" / "conformance.md"

HEAD = """\
# Conformance

What becomes of each thing that a client may send, and what it is sent. Each row is a check that
the tests run against `maxd serve` with the real CLI; `make conformance` writes this page from the
same data, `tests/end_to_end/conformance`.

- **honoured**: it does what the API's documentation says; a note says where it does not quite.
- **accepted, without effect**: the reply's `x-ignored-params` names it; with the header
  `X-Maxd-Strict: true` it is refused.
- **refused**: an error that names it.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(line for dialect in DIALECTS for line in _section(dialect))])


def _section(dialect: Dialect) -> Iterator[str]:
    yield f"## {dialect.title}: `{dialect.path}`"
    yield ""
    for group in dict.fromkeys(check.group for check in dialect.checks):
        yield f"| {group} | | |"
        yield "| --- | --- | --- |"
        for check in dialect.checks:
            if check.group == group:
                yield f"| {check.name} | {check.verdict} | {check.note} |"
        yield ""


if __name__ == "__main__":
    PAGE.write_text(page())
