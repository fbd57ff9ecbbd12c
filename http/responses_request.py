"""OpenAI Responses, inwards: from the body of a request to a Turn."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from maxd.http.decoding import decode, faults_named
from maxd.http.dialect import FindModel
from maxd.http.field_table import refuse_ignored
from maxd.http.responses_fields import FIELDS
from maxd.http.responses_history import Placed, conversation
from maxd.http.responses_items import Item, ItemReference, read_items, response_of
from maxd.http.responses_tools import Tools, read_choice, read_format, read_tools
from maxd.workers.faults import BadRequest
from maxd.workers.turn import Effort, Turn

LOGPROBS = "message.output_text.logprobs"
SEALED = "reasoning.encrypted_content"
MOST_REFERRED = 1000
"""Responses whose items one request may refer to: each is looked up."""
_EFFORTS: Mapping[str, Effort] = {
    "none": "none",
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "xhigh",
    "max": "max",
}


class TextConfig(Struct):
    format: Raw = Raw()
    verbosity: str | None = None


class Reasoning(Struct):
    effort: str | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
    mode: str | None = None
    context: str | None = None


class Body(Struct):
    model: str
    input: Raw
    instructions: str | None = None
    previous_response_id: str | None = None
    store: bool | None = None
    stream: bool | None = None
    tools: list[Raw] | None = None
    tool_choice: Raw = Raw()
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: Reasoning | None = None
    max_output_tokens: Annotated[int, Meta(ge=1)] | None = None
    metadata: (
        Annotated[
            dict[
                Annotated[str, Meta(max_length=64)],
                Annotated[str, Meta(max_length=512)],
            ],
            Meta(max_length=16),
        ]
        | None
    ) = None
    include: list[str] | None = None


class Parsed(Struct, frozen=True, kw_only=True):
    """A request that is well formed. Its items may still refer to others."""

    body: Body
    items: list[Item | ItemReference]
    tools: Tools
    format: Raw
    schema: str | None
    ignored: tuple[str, ...]

    @property
    def stores(self) -> bool:
        """Whether the client wants the response to be kept."""
        return self.body.store is not False

    @property
    def summarizes(self) -> bool:
        """Whether the model's thinking is to be shown."""
        reasoning = self.body.reasoning
        return bool(reasoning and (reasoning.summary or reasoning.generate_summary))

    @property
    def seals(self) -> bool:
        """Whether the client wants the model's thinking to hand it back."""
        return SEALED in (self.body.include or ())

    @property
    def references(self) -> set[str]:
        """The ids of the responses whose items are referred to. Raises BadRequest for an item of
        none, and for more than `MOST_REFERRED`."""
        found = set()
        for index, item in enumerate(self.items):
            if isinstance(item, ItemReference):
                response = response_of(item.id)
                if response is None:
                    raise unknown_item(index)
                found.add(response)
        if len(found) > MOST_REFERRED:
            raise BadRequest("items of too many responses are referred to", param="input")
        return found

    def resolve(self, known: Mapping[str, Item]) -> "list[Item]":
        """The items with those of `known` in place of references. Raises BadRequest."""
        items: list[Item] = []
        for index, item in enumerate(self.items):
            if isinstance(item, ItemReference):
                if item.id not in known:
                    raise unknown_item(index)
                items.append(known[item.id])
            else:
                items.append(item)
        return items


def unknown_item(index: int) -> BadRequest:
    return BadRequest(
        "there is no such stored item under this API key",
        param=f"input[{index}].id",
        status=404,
        code="item_not_found",
    )


_body = msgspec.json.Decoder(Body)


def parse(data: bytes, *, strict: bool = False) -> Parsed:
    """The request in `data`. Raises BadRequest naming the field, with `strict` also one that would
    have no effect, and TooLarge."""
    with faults_named():
        if not data.isascii():
            # What is given back is not decoded, and must be text as well.
            data.decode()
        ignored = [*FIELDS.apply(data, strict=strict)]
    body = decode(_body, data)
    if LOGPROBS in (body.include or ()):
        raise BadRequest("the service has no logprobs", param="include", code="unsupported_value")
    tools = read_tools(body.tools or ())
    ignored += tools.ignored
    text = body.text or TextConfig()
    if text.verbosity not in (None, "medium"):
        ignored.append("text.verbosity")
    reasoning = body.reasoning or Reasoning()
    if reasoning.effort not in (None, *_EFFORTS):
        raise BadRequest(f"must be one of {', '.join(_EFFORTS)}", param="reasoning.effort")
    if reasoning.mode not in (None, "standard"):
        ignored.append("reasoning.mode")
    if reasoning.context not in (None, "auto"):
        ignored.append("reasoning.context")
    if strict:
        refuse_ignored(ignored)
    return Parsed(
        body=body,
        items=read_items(body.input, "input"),
        tools=tools,
        format=text.format,
        schema=read_format(text.format),
        ignored=tuple(ignored),
    )


def make_turn(
    parsed: Parsed,
    history: Sequence[Item],
    items: Sequence[Item],
    find_model: FindModel,
    searches: Callable[[str], bool],
    *,
    alone: bool,
) -> Turn:
    """The turn that `items` ask for after `history`, which is that of `previous_response_id`.

    `searches` tells whether the workers of a profile can search the web. `alone` is as
    `conversation` says. Raises BadRequest naming the field, ModelNotFound, TooLarge.
    """
    body = parsed.body
    profile, model = find_model(body.model)
    if parsed.tools.web_search and not searches(profile):
        raise BadRequest(
            f"the profile {profile} has no web_search",
            param="tools",
            code="unsupported_value",
        )
    placed = [Placed(item, "previous_response_id") for item in history]
    # A text is one item without a place of its own.
    text = bytes(body.input)[:1] == b'"'
    placed += [
        Placed(item, "input" if text else f"input[{index}]") for index, item in enumerate(items)
    ]
    system, messages = conversation(placed, body.instructions, alone=alone)
    effort = body.reasoning.effort if body.reasoning else None
    return Turn(
        profile=profile,
        model=model,
        system=system,
        messages=messages,
        functions=parsed.tools.functions,
        tool_choice=read_choice(body.tool_choice, parsed.tools),
        parallel_calls=body.parallel_tool_calls is not False,
        schema=parsed.schema,
        effort=None if effort is None else _EFFORTS[effort],
        max_tokens=body.max_output_tokens,
    )
