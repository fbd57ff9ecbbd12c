"""Anthropic messages, inwards: the conversation of a request as Messages."""

from collections.abc import Iterable, Iterator
from itertools import groupby

import msgspec
from msgspec import Raw

from maxd.http import content
from maxd.http.anthropic_body import NOTHING, Block, MessageBody, Source, content_decoder
from maxd.http.content import Allowance, check_text
from maxd.workers.faults import BadRequest
from maxd.workers.turn import Document, Image, Message, Part, Text, Thinking, ToolCall, ToolResult

# What the service's own tools have left in an answer. It says nothing to a model that is given the
# text which followed, and cannot be given to the CLI.
_SERVERS = frozenset(
    {
        "server_tool_use",
        "web_search_tool_result",
        "web_fetch_tool_result",
        "code_execution_tool_result",
        "bash_code_execution_tool_result",
        "text_editor_code_execution_tool_result",
        "tool_search_tool_result",
        "advisor_tool_result",
        "mcp_tool_use",
        "mcp_tool_result",
        "mcp_tool_listing",
        "compaction",
        "fallback",
        "tool_reference",
        "redacted_thinking",
    }
)
_ASSISTANTS = frozenset({"thinking", "tool_use"})
_USERS = frozenset({"image", "document", "tool_result", "search_result"})
_SHOWN_TYPE_LENGTH = 64


class Reader:
    """Reads the content of one request. `ignored` names what it has left out."""

    def __init__(self) -> None:
        self._allowance = Allowance()
        self._ignored: dict[str, None] = {}

    @property
    def ignored(self) -> tuple[str, ...]:
        return tuple(self._ignored)

    def system(self, system: str | Iterable[str]) -> Iterator[str]:
        """The system texts. Blank ones say nothing, and the service refuses them."""
        for text in (system,) if isinstance(system, str) else system:
            if check_text(text, "system").strip():
                self._allowance.take((Text(text),))
                yield text

    def conversation(
        self, messages: list[MessageBody], *, continues: bool
    ) -> tuple[tuple[str, ...], tuple[Message, ...]]:
        """The system texts at the head of the messages, and the Messages after them.

        A system message further on keeps its place as a message of the user's. `continues`: the
        messages follow others that are known here, so they may begin with results.

        Raises BadRequest, naming the place, for what cannot be given to the model.
        """
        read = [(index, each, self._parts(each, index)) for index, each in enumerate(messages)]
        system: list[str] = []
        while len(read) > 1 and read[0][1].role == "system":
            system += (part.text for part in read.pop(0)[2] if isinstance(part, Text))
        if not read:
            raise BadRequest("at least one message is required", param="messages")
        last, final, parts = read[-1]
        if final.role == "assistant":
            raise BadRequest(
                "the last message must not be the assistant's: answers are not prefilled here",
                param=f"messages.{last}.role",
            )
        if not parts:
            raise BadRequest("the message is empty", param=f"messages.{last}.content")
        return tuple(system), tuple(_paired([entry for entry in read if entry[2]], continues))

    def _parts(self, message: MessageBody, index: int) -> list[Part]:
        where = f"messages.{index}.content"
        if isinstance(message.content, str):
            text = check_text(message.content, where)
            parts: list[Part] = [Text(text)] if text.strip() else []
            self._allowance.take(parts)
            return parts
        parts = []
        for number, block in enumerate(message.content):
            place = f"{where}.{number}"
            if block.type in _ASSISTANTS and message.role != "assistant":
                raise BadRequest(f"`{block.type}` belongs to the assistant", param=place)
            if block.type in _USERS and message.role != "user":
                raise BadRequest(f"`{block.type}` belongs to the user", param=place)
            parts.extend(self._block(block, place))
        self._allowance.take(parts)
        return list(_joined(parts)) if message.role == "assistant" else parts

    def _block(self, block: Block, place: str) -> Iterator[Part]:
        match block.type:
            case "thinking":
                text = _word(block.thinking, f"{place}.thinking")
                yield Thinking(text, _word(block.signature, f"{place}.signature"))
            case "tool_use":
                arguments = content.json_object(block.input, f"{place}.input")
                yield ToolCall(
                    _word(block.id, f"{place}.id"),
                    _word(block.name, f"{place}.name"),
                    check_text(arguments, f"{place}.input"),
                )
            case "tool_result":
                yield ToolResult(
                    _word(block.tool_use_id, f"{place}.tool_use_id"),
                    tuple(self._nested(block.content, f"{place}.content")),
                    bool(block.is_error),
                )
            case _:
                yield from self._shown(block, place)

    def _nested(self, raw: Raw, where: str) -> Iterator[Text | Image | Document]:
        """Content within a block."""
        try:
            found = content_decoder.decode(raw)
        except msgspec.ValidationError:
            raise BadRequest("must be a text or content blocks", param=where) from None
        if isinstance(found, str):
            if check_text(found, where).strip():
                yield Text(found)
            return
        for number, block in enumerate(found or ()):
            yield from self._shown(block, f"{where}.{number}")

    def _shown(self, block: Block, place: str) -> Iterator[Text | Image | Document]:
        """What the model is shown of a block of a type that may stand anywhere."""
        match block.type:
            case "text":
                text = _word(block.text, f"{place}.text")
                if text.strip():
                    yield Text(text)
            case "image":
                source = _source(block, place)
                if source.type != "base64":
                    raise content.unsupported(
                        f"only base64 is taken: nothing is fetched ({_name(source.type)})",
                        f"{place}.source.type",
                    )
                yield content.image(source.media_type, source.data, f"{place}.source")
            case "document":
                yield from self._document(block, place)
            case "search_result":
                told = (block.title, block.source)
                head = "\n".join(each for each in told if isinstance(each, str))
                if head.strip():
                    yield Text(check_text(head, place))
                yield from self._nested(block.content, f"{place}.content")
            case kind if kind in _SERVERS:
                self._ignored[f"messages.content.{kind}"] = None
            case kind:
                raise BadRequest(f"content of type {_name(kind)} is not taken", param=place)

    def _document(self, block: Block, place: str) -> Iterator[Text | Image | Document]:
        source = _source(block, place)
        if block.citations != NOTHING and bytes(block.citations) != b"null":
            self._ignored["messages.content.citations"] = None
        title = None if block.title is None else check_text(block.title, f"{place}.title")
        if block.context:
            yield Text(check_text(block.context, f"{place}.context"))
        match source.type:
            case "base64" if source.media_type == "application/pdf":
                yield content.pdf(source.data, title, f"{place}.source")
            case "text" if source.media_type in ("", "text/plain"):
                text = check_text(source.data, f"{place}.source.data")
                yield Document("text/plain", text, title)
            case "content":
                if title:
                    yield Text(title)
                yield from self._nested(source.content, f"{place}.source.content")
            case "base64" | "text":
                raise BadRequest(
                    "documents are `application/pdf` as base64 or `text/plain` as text",
                    param=f"{place}.source.media_type",
                )
            case kind:
                raise content.unsupported(
                    f"only data in the request is taken: nothing is fetched ({_name(kind)})",
                    f"{place}.source.type",
                )


def _paired(read: list[tuple[int, MessageBody, list[Part]]], continues: bool) -> Iterator[Message]:
    """The messages, with the results of each round of calls in a message of their own.

    The service demands a result of each call, and nothing else, in the user message after the
    calls, and joins messages of one role that follow each other. Raises BadRequest where a call
    has no result or a result no call, as it would.
    """
    calls: dict[str, None] = {}
    seen: set[str] = set()
    # What came before the messages may end in calls that are known here.
    known = continues
    for of_user, group in groupby(read, key=lambda entry: entry[1].role != "assistant"):
        entries = list(group)
        if not of_user:
            if not calls and not seen and not known and entries[0] is read[0]:
                raise BadRequest(
                    "the first message must be the user's", param=f"messages.{entries[0][0]}.role"
                )
            for index, _, parts in entries:
                for part in parts:
                    if isinstance(part, ToolCall):
                        if part.id in seen:
                            raise BadRequest(
                                "`tool_use` ids must be unique", param=f"messages.{index}.content"
                            )
                        seen.add(part.id)
                        calls[part.id] = None
                yield Message("assistant", tuple(parts))
            known = False
            continue
        results: dict[str, ToolResult] = {}
        for index, _, parts in entries:
            for part in parts:
                if not isinstance(part, ToolResult):
                    continue
                if part.call_id in results or (part.call_id not in calls and not known):
                    raise BadRequest(
                        "a `tool_result` must answer one `tool_use` of the message before it, once",
                        param=f"messages.{index}.content",
                    )
                results[part.call_id] = part
        if missing := calls.keys() - results.keys():
            raise BadRequest(
                f"{len(missing)} `tool_use` without a `tool_result` in the message after it",
                param=f"messages.{entries[0][0]}.content",
            )
        calls.clear()
        known = False
        if results:
            yield Message("user", tuple(results.values()))
        for _, _, parts in entries:
            if others := tuple(part for part in parts if not isinstance(part, ToolResult)):
                yield Message("user", others)


def _joined(parts: list[Part]) -> Iterator[Part]:
    """Texts of an answer that follow each other are one: a reply in pieces is the same reply."""
    for is_text, group in groupby(parts, key=lambda part: isinstance(part, Text)):
        if is_text:
            yield Text("".join(part.text for part in group if isinstance(part, Text)))
        else:
            yield from group


def _needed(value: str | None, where: str) -> str:
    if value is None:
        raise BadRequest("field required", param=where)
    return value


def _word(value: str | None, where: str) -> str:
    return check_text(_needed(value, where), where)


def _source(block: Block, place: str) -> Source:
    if not isinstance(block.source, Source):
        raise BadRequest("field required", param=f"{place}.source")
    return block.source


def _name(kind: str) -> str:
    """A type of the client's, to be named in an error."""
    shown = kind[:_SHOWN_TYPE_LENGTH]
    return f"`{shown}`" if shown.replace("_", "").isalnum() and shown.isascii() else "unknown type"
