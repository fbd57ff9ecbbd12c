"""OpenAI Responses, inwards: from the items of a conversation to its messages."""

import re
from collections.abc import Iterable, Iterator, Sequence

import msgspec
from msgspec import Raw, Struct, field

from maxd.http import data_urls
from maxd.http.content import PDF, PDF_BEGINS, Allowance, check_text, unsupported
from maxd.http.responses_items import (
    FunctionCallItem,
    FunctionOutputItem,
    InputAudio,
    InputFile,
    InputImage,
    InputText,
    Item,
    MessageItem,
    MessagePart,
    OutputText,
    ReasoningItem,
    Refusal,
    WebSearchItem,
)
from maxd.http.responses_thinking import unseal
from maxd.workers.faults import BadRequest
from maxd.workers.turn import (
    Document,
    Image,
    Message,
    Part,
    Text,
    ToolCall,
    ToolResult,
)

_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,128}", re.ASCII)
_CALL_ID = re.compile(r"[!-~]{1,256}", re.ASCII)
_object = msgspec.json.Decoder(dict[str, Raw])


class Placed(Struct, frozen=True):
    """An item, and the name of its place for errors."""

    item: Item
    place: str


class _Said(Struct):
    """A message in the making. The results of its calls follow it, wherever they have stood."""

    assistant: bool
    parts: list[Part] = field(default_factory=list)
    calls: dict[str, str] = field(default_factory=dict)
    """Calls without a result: their ids, and the places of their items."""
    results: list[ToolResult] = field(default_factory=list)


def conversation(
    items: Sequence[Placed], instructions: str | None, *, alone: bool
) -> tuple[tuple[str, ...], tuple[Message, ...]]:
    """The system texts at the head of the conversation, and the messages after them.

    A system message further on keeps its place as a message of the user's: hoisting it would
    change what came before it. `alone`: the request may bring its new items without those before,
    so that results need no call. Raises BadRequest naming the item, TooLarge.
    """
    system = []
    if instructions is not None and check_text(instructions, "instructions").strip():
        system.append(instructions)
    said: list[_Said] = []
    # Where the call of each id was made; None once it has its result.
    callers: dict[str, _Said] = {}
    allowance = Allowance("input")
    allowance.take(map(Text, system))
    for number, (item, place) in enumerate((each.item, each.place) for each in items):
        match item:
            case MessageItem(role="assistant"):
                parts = [*_parts(item.content, place, answer=True)]
                _answer(said).parts.extend(parts)
            case MessageItem(role="user" | "system" | "developer"):
                parts = [*_parts(item.content, place)]
                last = number == len(items) - 1
                if item.role != "user" and not said and not last:
                    system.extend(part.text for part in parts if isinstance(part, Text))
                elif parts:
                    said.append(_Said(assistant=False, parts=parts))
                elif last:
                    raise BadRequest(f"{place}.content is empty", param=f"{place}.content")
            case MessageItem():
                raise BadRequest(
                    "must be user, assistant, system or developer", param=f"{place}.role"
                )
            case FunctionCallItem():
                parts = [_call(item, place)]
                if item.call_id in callers:
                    raise BadRequest("two calls have this id", param=f"{place}.call_id")
                answer = callers[item.call_id] = _answer(said)
                answer.parts.extend(parts)
                answer.calls[item.call_id] = place
            case FunctionOutputItem():
                result = _result(item, place)
                parts = [result]
                _give_back(result, callers.get(item.call_id), said, place, alone=alone)
            case ReasoningItem():
                thinking = unseal(item)
                parts = [] if thinking is None else [thinking]
                if parts:
                    _answer(said).parts.extend(parts)
            case WebSearchItem():
                parts = []
        allowance.take(parts)
    return tuple(system), tuple(_finished(said))


def _finished(said: Iterable[_Said]) -> Iterator[Message]:
    last = None
    for each in said:
        for place in each.calls.values():
            raise BadRequest("there is no output for this function call", param=place)
        if each.parts:
            last = Message("assistant" if each.assistant else "user", tuple(each.parts))
            yield last
        if each.results:
            last = Message("user", tuple(each.results))
            yield last
    if last is None or last.role == "assistant":
        raise BadRequest(
            "the last item must not be the assistant's: there is nothing to answer", param="input"
        )


def _answer(said: list[_Said]) -> _Said:
    """The assistant's message that is being said, or a new one."""
    if not said or not said[-1].assistant or said[-1].results:
        said.append(_Said(assistant=True))
    return said[-1]


def _give_back(
    result: ToolResult, caller: _Said | None, said: list[_Said], place: str, *, alone: bool
) -> None:
    if caller is None and alone:
        if not said or not said[-1].assistant or said[-1].parts:
            said.append(_Said(assistant=True))
        said[-1].results.append(result)
    elif caller is None:
        raise BadRequest("there is no function call with this id", param=f"{place}.call_id")
    elif caller.calls.pop(result.call_id, None) is None:
        raise BadRequest("this function call has two outputs", param=f"{place}.call_id")
    else:
        caller.results.append(result)


def _parts(
    content: str | Sequence[MessagePart], place: str, *, answer: bool = False
) -> Iterator[Part]:
    """The parts of one message. Blank texts say nothing, and the service refuses them."""
    place = f"{place}.content"
    if isinstance(content, str):
        if check_text(content, place).strip():
            yield Text(content)
        return
    for index, part in enumerate(content):
        where = f"{place}[{index}]"
        match part:
            case InputText(text) | OutputText(text) | Refusal(text):
                if check_text(text, where).strip():
                    yield Text(text)
            case _ if answer:
                raise BadRequest("an answer holds texts only", param=where)
            case _:
                yield _data(part, where)


def _data(part: InputImage | InputFile | InputAudio, place: str) -> Image | Document:
    match part:
        case InputAudio():
            raise unsupported("audio is not supported", place)
        case InputImage(file_id=str()) | InputFile(file_id=str()):
            raise unsupported("there are no uploaded files; send the data", f"{place}.file_id")
        case InputFile(file_url=str()):
            raise unsupported("nothing is fetched; send `file_data`", f"{place}.file_url")
        case InputFile(filename, str(data)):
            if not data.startswith("data:"):
                # Some clients leave the head out.
                kind = PDF if data.startswith(PDF_BEGINS) else "text/plain"
                data = f"data:{kind};base64,{data}"
            return data_urls.file(data, filename, f"{place}.file_data")
        case InputImage(str(url)):
            return data_urls.image(url, f"{place}.image_url")
        case InputFile():
            raise BadRequest("file_data is missing", param=f"{place}.file_data")
        case InputImage():
            raise BadRequest("image_url is missing", param=f"{place}.image_url")


def _call(item: FunctionCallItem, place: str) -> ToolCall:
    _check_call_id(item.call_id, place)
    if _NAME.fullmatch(item.name) is None:
        raise BadRequest("must be 1 to 128 letters, digits and _ . : -", param=f"{place}.name")
    arguments = item.arguments.strip() or "{}"
    try:
        _object.decode(check_text(arguments, f"{place}.arguments"))
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise BadRequest("must be the JSON text of an object", param=f"{place}.arguments") from None
    return ToolCall(item.call_id, item.name, arguments)


def _result(item: FunctionOutputItem, place: str) -> ToolResult:
    _check_call_id(item.call_id, place)
    where = f"{place}.output"
    if isinstance(item.output, str):
        text = check_text(item.output, where)
        return ToolResult(item.call_id, (Text(text),) if text.strip() else ())
    parts: list[Text | Image | Document] = []
    for index, part in enumerate(item.output):
        if not isinstance(part, InputText):
            parts.append(_data(part, f"{where}[{index}]"))
        elif check_text(part.text, f"{where}[{index}]").strip():
            parts.append(Text(part.text))
    return ToolResult(item.call_id, tuple(parts))


def _check_call_id(call_id: str, place: str) -> None:
    if _CALL_ID.fullmatch(call_id) is None:
        raise BadRequest(
            "must be 1 to 256 printable characters without spaces", param=f"{place}.call_id"
        )
