"""The client's functions, and the form it wants the answer in, as every dialect takes them."""

from typing import Annotated, Final, TypeAlias

from msgspec import Meta, Raw

from maxd.http import schemas
from maxd.http.content import check_text
from maxd.workers.faults import BadRequest, TooLarge
from maxd.workers.turn import Function

TOOLS_LIMIT: Final = 512
"""Functions in one request. OpenAI takes 128; clients that cut nothing have been seen with 200."""
TOOLS_BYTES: Final = 2 * 1024 * 1024
"""Their JSON: more than twice what fits any model's window."""
NO_SCHEMA: Final = '{"type":"object"}'
"""What OpenAI's `json_object` asks for."""

OpenAIName: TypeAlias = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_.:-]{1,64}\Z")]
"""The name of a function in OpenAI's dialects; some clients have dots and colons in it."""

ABSENT: Final = frozenset((b"", b"null"))
"""What a Raw holds that was not sent, or asks for nothing."""


class Functions:
    """Collects the functions of one request. `size` is that of their JSON in bytes. Raises
    TooLarge."""

    def __init__(self, size: int) -> None:
        if size > TOOLS_BYTES:
            raise TooLarge(f"tools hold more than {TOOLS_BYTES} bytes", param="tools")
        self._found: dict[str, Function] = {}

    def add(
        self, name: str, description: str | None, schema: Raw, place: str, schema_place: str
    ) -> None:
        """Add the function that stands at `place`. Without a `schema` it takes nothing. Raises
        BadRequest naming what is wrong with it."""
        if name in self._found:
            raise BadRequest(
                f"{place}.name is the name of an earlier function too", param=f"{place}.name"
            )
        if len(self._found) >= TOOLS_LIMIT:
            raise BadRequest(f"tools are more than {TOOLS_LIMIT}", param="tools")
        described = check_text(description or "", f"{place}.description")
        takes = schemas.EMPTY
        if bytes(schema) not in ABSENT:
            try:
                takes = schemas.function_schema(schema)
            except schemas.BadSchema as error:
                raise _unusable(error, schema_place) from None
        self._found[name] = Function(name, described, takes)

    def all(self) -> tuple[Function, ...]:
        """Those that have been added, in their order."""
        return tuple(self._found.values())


def answer_schema(schema: Raw, place: str) -> str:
    """The JSON text of the schema at `place` that the answer must have. Raises BadRequest."""
    try:
        return schemas.answer_schema(schema)
    except schemas.BadSchema as error:
        raise _unusable(error, place) from None


def _unusable(error: schemas.BadSchema, place: str) -> BadRequest:
    return BadRequest(
        f"{place}: the schema cannot be used: {error}", param=place, code="invalid_schema"
    )
