"""OpenAI Responses, outwards: from the events of a turn to those of a stream, or to one object."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from maxd.http.responses_items import (
    FunctionCallItem,
    MessageItem,
    OutputText,
    ReasoningItem,
    SummaryText,
    WebSearchItem,
    item_id,
)
from maxd.http.responses_objects import (
    Incomplete,
    ItemEvent,
    Lifecycle,
    OutputItem,
    PartEvent,
    PieceEvent,
    ReasoningEcho,
    ResponseFailure,
    ResponseObject,
    StreamEvent,
    TextEcho,
    encode_event,
    encode_response,
    usage_of,
)
from maxd.http.responses_request import Parsed, Reasoning
from maxd.http.responses_thinking import seal
from maxd.workers.faults import Fault
from maxd.workers.profiles import SEARCH_TOOL
from maxd.workers.turn import (
    CallDelta,
    CallStarted,
    Event,
    Finished,
    RoundStarted,
    TextDelta,
    ThinkingDelta,
    ThinkingEnded,
    ToolStarted,
)

INCOMPLETE = {
    "max_tokens": "max_output_tokens",
    "model_context_window_exceeded": "max_output_tokens",
    "refusal": "content_filter",
}
"""Stop reasons of the Messages API with which a response is not complete."""
FAILURES = frozenset(("rate_limit_exceeded", "context_length_exceeded"))
"""What a failed response may call its error; clients with types know few others."""

NOTHING = (b"", b"null")
"""What a Raw holds where nothing was asked for."""

OnEnd: TypeAlias = Callable[[ResponseObject], None]


def begin(parsed: Parsed, response_id: str, *, stores: bool) -> ResponseObject:
    """The response to a request, of which nothing has been said yet."""
    body = parsed.body
    asked = body.reasoning or Reasoning()
    return ResponseObject(
        id=response_id,
        created_at=int(time.time()),
        instructions=body.instructions,
        max_output_tokens=body.max_output_tokens,
        metadata=body.metadata or {},
        model=body.model,
        parallel_tool_calls=body.parallel_tool_calls is not False,
        previous_response_id=body.previous_response_id,
        reasoning=ReasoningEcho(asked.effort, asked.summary or asked.generate_summary),
        store=stores,
        text=TextEcho(_echo(parsed.format, b'{"type":"text"}')),
        tool_choice=_echo(body.tool_choice, b'"auto"'),
        tools=[_echo(tool) for tool in body.tools or ()],
    )


def _echo(value: Raw, default: bytes = b"null") -> Raw:
    """`value`, or `default` for nothing, on one line: a line break of the client's own JSON would
    end the line of an event."""
    data = bytes(value)
    return Raw(default if data in NOTHING else msgspec.json.format(data, indent=-1))


class Reply:
    """The response object as a turn fills it, and the events that tell of it.

    `summarizes`: thinking is told as summaries. `seals`: it is also given for handing back.
    `searches`: searches are told. `on_end` is called with the finished response before its last
    event is told.
    """

    def __init__(
        self,
        response: ResponseObject,
        *,
        summarizes: bool,
        seals: bool,
        searches: bool,
    ) -> None:
        self.response = response
        self._summarizes = summarizes
        self._seals = seals
        self._searches = searches
        self.on_end: OnEnd = lambda response: None
        # The item that is being told, the last of the output, and the pieces of its text so far.
        self._item: OutputItem | None = None
        self._pieces: list[str] = []
        self._signature = ""
        # Thinking that is not shown, while its signature is to come.
        self._hidden: list[str] = []

    def feed(self, events: Iterable[Event]) -> Iterator[StreamEvent]:
        """What the events of the turn tell the client."""
        for event in events:
            match event:
                case TextDelta(text):
                    yield from self._open(MessageItem)
                    yield self._piece("response.output_text.delta", text)
                case ThinkingDelta(text) if self._summarizes:
                    yield from self._open(ReasoningItem)
                    yield self._piece("response.reasoning_summary_text.delta", text)
                case ThinkingDelta(text):
                    self._hidden.append(text)
                case ThinkingEnded(signature):
                    yield from self._thinking_ended(signature)
                case CallStarted(call_id, name):
                    yield from self._begin(
                        FunctionCallItem(call_id, name, "", self._new_id(FunctionCallItem))
                    )
                case CallDelta(arguments):
                    yield self._piece("response.function_call_arguments.delta", arguments)
                case ToolStarted(name) if self._searches and name == SEARCH_TOOL:
                    yield from self._begin(WebSearchItem(self._new_id(WebSearchItem)))
                    yield self._told("response.web_search_call.in_progress")
                    yield self._told("response.web_search_call.searching")
                case RoundStarted() if isinstance(self._item, WebSearchItem):
                    yield from self._close()
                case Finished():
                    yield from self._end(event)
                case _:
                    pass

    def failed(self, fault: Fault) -> Lifecycle:
        """The response that `fault` has ended. An item that was being told stays in pieces."""
        response = self.response
        response.status = "failed"
        code = fault.code if fault.code in FAILURES else "server_error"
        response.error = ResponseFailure(code or "server_error", fault.message)
        return Lifecycle("response.failed", response)

    def _end(self, finished: Finished) -> Iterator[StreamEvent]:
        response = self.response
        reason = INCOMPLETE.get(finished.stop_reason)
        yield from self._close("completed" if reason is None else "incomplete")
        response.usage = usage_of(finished.usage)
        if reason is None:
            response.status = "completed"
            response.completed_at = int(time.time())
        else:
            response.status = "incomplete"
            response.incomplete_details = Incomplete(reason)
        self.on_end(response)
        yield Lifecycle(f"response.{response.status}", response)

    def _thinking_ended(self, signature: str) -> Iterator[StreamEvent]:
        if self._seals and not isinstance(self._item, ReasoningItem):
            yield from self._begin(ReasoningItem([], self._new_id(ReasoningItem)))
        if isinstance(self._item, ReasoningItem):
            self._signature = signature
            yield from self._close()
        self._hidden.clear()

    def _open(self, kind: type[MessageItem] | type[ReasoningItem]) -> Iterator[StreamEvent]:
        """Begin an item of `kind`, unless one is being told."""
        if isinstance(self._item, kind):
            return
        name = self._new_id(kind)
        if kind is MessageItem:
            yield from self._begin(MessageItem("assistant", [], name))
            yield self._part("response.content_part.added", OutputText(""))
        else:
            yield from self._begin(ReasoningItem([], name))
            yield self._part("response.reasoning_summary_part.added", SummaryText(""))

    def _begin(self, item: OutputItem) -> Iterator[StreamEvent]:
        yield from self._close()
        if not isinstance(item, ReasoningItem):
            item.status = "in_progress"
        self._item = item
        self.response.output.append(item)
        yield self._item_event("response.output_item.added", item)

    def _close(self, status: str = "completed") -> Iterator[StreamEvent]:
        """Tell the end of the item that is being told, if there is one."""
        item, text = self._item, "".join(self._pieces)
        match item:
            case None:
                return
            case MessageItem():
                part = OutputText(text)
                item.content = [part]
                yield self._told("response.output_text.done", text=text)
                yield self._part("response.content_part.done", part)
            case FunctionCallItem():
                item.arguments = text or "{}"
                yield self._told(
                    "response.function_call_arguments.done",
                    name=item.name,
                    arguments=item.arguments,
                )
            case ReasoningItem():
                if text:
                    item.summary = [SummaryText(text)]
                    yield self._told("response.reasoning_summary_text.done", text=text)
                    yield self._part("response.reasoning_summary_part.done", item.summary[0])
                if self._seals and self._signature:
                    item.encrypted_content = seal(text or "".join(self._hidden), self._signature)
            case WebSearchItem():
                yield self._told("response.web_search_call.completed")
        if not isinstance(item, ReasoningItem):
            item.status = status
        self._item = None
        self._pieces.clear()
        self._signature = ""
        yield self._item_event("response.output_item.done", item)

    def _new_id(
        self,
        kind: type[MessageItem | ReasoningItem | FunctionCallItem | WebSearchItem],
    ) -> str:
        return item_id(kind, self.response.id, len(self.response.output))

    @property
    def _index(self) -> int:
        return len(self.response.output) - 1

    def _item_event(self, event: str, item: OutputItem) -> ItemEvent:
        return ItemEvent(event, self._index, item)

    def _part(self, event: str, part: OutputText | SummaryText) -> PartEvent:
        told = PartEvent(event, self.response.output[-1].id or "", self._index, part)
        if isinstance(part, OutputText):
            told.content_index = 0
        else:
            told.summary_index = 0
        return told

    def _piece(self, event: str, delta: str) -> PieceEvent:
        self._pieces.append(delta)
        return self._told(event, delta=delta)

    def _told(self, event: str, **fields: str) -> PieceEvent:
        item = self.response.output[-1]
        told = PieceEvent(event, item.id or "", self._index)
        for name, value in fields.items():
            setattr(told, name, value)
        if isinstance(item, MessageItem):
            told.content_index, told.logprobs = 0, []
        elif isinstance(item, ReasoningItem):
            told.summary_index = 0
        return told


class StreamEncoder:
    """Events of one turn as server-sent events, numbered."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._number = 0

    def encode(self, events: Iterable[Event]) -> bytes:
        """The bytes to send for `events`, in one piece; may be empty."""
        # Each is made bytes before the next one changes the response that both show.
        return b"".join(map(self._number_and_encode, self._with_beginning(events)))

    def heartbeat(self) -> bytes:
        """`response.in_progress` again: the only event that may come twice and changes nothing."""
        if self._number == 0:
            return self.encode(())
        return self._number_and_encode(Lifecycle("response.in_progress", self._empty()))

    def error(self, fault: Fault) -> bytes:
        """The end of a stream that failed."""
        begun = self.encode(()) if self._number == 0 else b""
        return begun + self._number_and_encode(self._reply.failed(fault))

    def _with_beginning(self, events: Iterable[Event]) -> Iterator[StreamEvent]:
        if self._number == 0:
            yield Lifecycle("response.created", self._reply.response)
            yield Lifecycle("response.in_progress", self._reply.response)
        yield from self._reply.feed(events)

    def _empty(self) -> ResponseObject:
        """The response without the items that are being told, as at the beginning."""
        return replace(self._reply.response, output=[])

    def _number_and_encode(self, event: StreamEvent) -> bytes:
        event.sequence_number = self._number
        self._number += 1
        return encode_event(event)


class Collector:
    """Events of one turn as one object."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    def feed(self, events: Iterable[Event]) -> bytes | None:
        """The body of the reply once the turn is finished; None until then."""
        for _ in self._reply.feed(events):
            pass
        if self._reply.response.status == "in_progress":
            return None
        return encode_response(self._reply.response)
