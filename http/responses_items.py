"""OpenAI Responses: the items of a conversation, as they come in, are stored and go out again."""

import re
import secrets
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, field

from maxd.http.decoding import decode
from maxd.workers.faults import BadRequest

# An item's id tells the response whose output it is in, so that a reference to it can be looked
# up. Those of input items have an `i` before the index.
_OUTPUT_ID = re.compile(r"[a-z]+_([0-9a-f]{40})_[0-9]+", re.ASCII)


class InputText(Struct, tag_field="type", tag="input_text"):
    text: str


class InputImage(Struct, tag_field="type", tag="input_image"):
    image_url: str | None = None
    file_id: str | None = None
    detail: str | None = "auto"


class InputFile(Struct, tag_field="type", tag="input_file", omit_defaults=True):
    filename: str | None = None
    file_data: str | None = None
    file_id: str | None = None
    file_url: str | None = None


class InputAudio(Struct, tag_field="type", tag="input_audio"):
    pass


class OutputText(Struct, tag_field="type", tag="output_text"):
    text: str
    annotations: list[Raw] = field(default_factory=list)
    logprobs: list[Raw] | None = field(default_factory=list)


class Refusal(Struct, tag_field="type", tag="refusal"):
    refusal: str


class SummaryText(Struct, tag_field="type", tag="summary_text"):
    text: str


InputPart: TypeAlias = InputText | InputImage | InputFile | InputAudio
MessagePart: TypeAlias = InputPart | OutputText | Refusal


class MessageItem(Struct, tag_field="type", tag="message", omit_defaults=True):
    """What somebody said. `role` is checked where the item is used."""

    role: str
    content: str | list[MessagePart]
    id: str | None = None
    status: str | None = None


class FunctionCallItem(Struct, tag_field="type", tag="function_call", omit_defaults=True):
    call_id: str
    name: str
    arguments: str
    id: str | None = None
    status: str | None = None


class FunctionOutputItem(Struct, tag_field="type", tag="function_call_output", omit_defaults=True):
    call_id: str
    output: str | list[InputPart]
    id: str | None = None
    status: str | None = None


class ReasoningItem(Struct, tag_field="type", tag="reasoning"):
    summary: list[SummaryText] = field(default_factory=list)
    id: str | None = None
    encrypted_content: str | UnsetType | None = UNSET


class WebSearchItem(Struct, tag_field="type", tag="web_search_call"):
    """A search that a hosted tool has made; its findings are in the answer after it. What was
    searched for is the CLI's to know."""

    id: str | None = None
    status: str | None = None
    action: Raw = Raw(b'{"type":"search","query":""}')


class ItemReference(Struct, tag_field="type", tag="item_reference"):
    id: str


Item: TypeAlias = (
    MessageItem | FunctionCallItem | FunctionOutputItem | ReasoningItem | WebSearchItem
)

_KINDS: dict[str, msgspec.json.Decoder[Item | ItemReference]] = {
    kind.__struct_config__.tag: msgspec.json.Decoder(kind)  # type: ignore[misc]
    for kind in (
        MessageItem,
        FunctionCallItem,
        FunctionOutputItem,
        ReasoningItem,
        WebSearchItem,
        ItemReference,
    )
}
_PREFIXES = {
    MessageItem: "msg",
    FunctionCallItem: "fc",
    FunctionOutputItem: "fco",
    ReasoningItem: "rs",
    WebSearchItem: "ws",
}


class _Head(Struct):
    type: str | None = None
    role: str | None = None


class _Easy(Struct):
    """A message without its type, as most clients send them."""

    role: str
    content: str | list[MessagePart]


_head = msgspec.json.Decoder(_Head)
_easy = msgspec.json.Decoder(_Easy)
_raws = msgspec.json.Decoder(list[Raw])
_encoder = msgspec.json.Encoder()


def new_response_id() -> str:
    return f"resp_{secrets.token_hex(20)}"


def item_id(kind: type[Item], response_id: str, index: int | str) -> str:
    """The id of an item of a response's output."""
    return f"{_PREFIXES[kind]}_{response_id.removeprefix('resp_')}_{index}"


def response_of(reference: str) -> str | None:
    """The id of the response whose output holds an item, if its id is one of ours."""
    found = _OUTPUT_ID.fullmatch(reference)
    return f"resp_{found[1]}" if found else None


def read_items(value: Raw, place: str) -> list[Item | ItemReference]:
    """The items in `value`, which is a text or an array. Raises BadRequest naming the item."""
    data = bytes(value)
    if data[:1] == b'"':
        return [MessageItem("user", decode(_text, value, place))]
    raws: list[Raw] = decode(_raws, value, place)
    return [_read_item(raw, f"{place}[{index}]") for index, raw in enumerate(raws)]


_text = msgspec.json.Decoder(str)


def _read_item(raw: Raw, place: str) -> Item | ItemReference:
    head = decode(_head, raw, place)
    if head.type is None:
        if head.role is None:
            raise BadRequest(f"missing `type` in {place}", param=f"{place}.type")
        easy = decode(_easy, raw, place)
        return MessageItem(easy.role, easy.content)
    decoder = _KINDS.get(head.type)
    if decoder is None:
        name = head.type if re.fullmatch("[a-z_]{1,40}", head.type) else "such"
        raise BadRequest(
            f"{name} items are not supported", param=f"{place}.type", code="unsupported_value"
        )
    return decode(decoder, raw, place)


def stored(items: Sequence[Item], response_id: str) -> bytes:
    """The items of a request as they are kept and listed: each with an id and a status."""
    return _encoder.encode(list(_complete(items, response_id)))


def _complete(items: Sequence[Item], response_id: str) -> Iterator[Item]:
    for index, item in enumerate(items):
        # An id that came along is kept: it may be that of an earlier response's item.
        item.id = item.id or item_id(type(item), response_id, f"i{index}")
        if isinstance(item, MessageItem) and isinstance(item.content, str):
            kind = OutputText if item.role == "assistant" else InputText
            item.content = [kind(item.content)]
        if not isinstance(item, ReasoningItem):
            item.status = item.status or "completed"
        yield item


class _Output(Struct):
    output: list[Item]


_stored_items = msgspec.json.Decoder(list[Item])
_stored_output = msgspec.json.Decoder(_Output)


def restore(items: bytes, body: bytes) -> list[Item]:
    """The items of a stored response: what it answered, and what it said."""
    return [*_stored_items.decode(items), *_stored_output.decode(body).output]


def page(
    items: bytes, *, after: str | None, limit: int, newest_first: bool
) -> tuple[list[Item], bool]:
    """Items as `GET …/input_items` lists them, and whether there are more."""
    found = _stored_items.decode(items)
    if newest_first:
        found.reverse()
    if after is not None:
        position = next((i for i, item in enumerate(found) if item.id == after), len(found))
        found = found[position + 1 :]
    return found[:limit], len(found) > limit
