"""What the model says in a turn, round by round: from the API's events to ours."""

from maxd.workers import messages as wire
from maxd.workers.functions import FunctionServer
from maxd.workers.recorder import Recorder
from maxd.workers.tools import started
from maxd.workers.turn import (
    CallDelta,
    CallStarted,
    Event,
    RoundBroken,
    RoundEnded,
    RoundStarted,
    TextDelta,
    ThinkingDelta,
    ThinkingEnded,
    Turn,
)

# The tool by which the CLI lets the model give an answer of the schema it is bound to.
STRUCTURED_OUTPUT = "StructuredOutput"


class Rounds:
    """Listens to the main conversation's messages of one worker, and says what they mean.

    Where the answer is bound to a schema, text is no part of it. Where a function must be called,
    text is held back until one is, because without one the model is asked again.
    """

    def __init__(self, recorder: Recorder, functions: FunctionServer) -> None:
        self._recorder = recorder
        self.functions = functions
        self._open = False
        # Ids of the model messages whose blocks came as deltas, so that the `assistant` message
        # that repeats them is not told twice.
        self._streamed: set[str] = set()
        # The id of the message that is coming in whole blocks, and why it will end.
        self._whole: str | None = None
        self._whole_stop = "end_turn"
        # The call whose arguments are coming, by our id; and whether any came.
        self._call: str | None = None
        self._arguments = False
        self._out: list[Event] = []
        self._held: list[Event] = []
        self._holding = self._silent = False
        self.last_stop: str | None = None
        self.called = False

    def begin_turn(self, turn: Turn) -> None:
        """A turn begins, or goes on with the results of its calls."""
        self.functions.begin_turn(turn.tool_choice, parallel=turn.parallel_calls)
        self._streamed.clear()
        self._held.clear()
        self._out.clear()
        # Of a turn that was interrupted in the middle of a message, and is none of this one's.
        self._open = False
        self._call = self._whole = None
        self._whole_stop = "end_turn"
        self._holding = turn.tool_choice.mode == "required"
        self._silent = turn.schema is not None
        self.last_stop = None
        self.called = False

    def ask_again(self) -> None:
        """What was said without the call that has to be made is no part of the answer."""
        self._held.clear()
        self.last_stop = None

    @property
    def ended(self) -> str | None:
        """Why the last message ended; None while one is open, or when it was cut off."""
        return None if self._open else self.last_stop

    @property
    def is_cut(self) -> bool:
        """Whether the last message was cut off, and no other has begun."""
        return not self._open and self.last_stop is None

    @property
    def is_endless(self) -> bool:
        """Whether no event shows the end of the last message: it comes in whole blocks, or was
        cut."""
        return self._whole is not None or self.is_cut

    def take(self) -> list[Event]:
        """What has been said since the last time."""
        taken, self._out = self._out, []
        return taken

    def event(self, event: wire.ApiEvent) -> None:
        """An event of the API's stream."""
        match event:
            case wire.ApiEvent(type="message_start", message=wire.ModelMessage() as said):
                self._streamed.add(said.id)
                self._begin(said)
            case wire.ApiEvent(type="content_block_start", content_block=wire.Block() as block):
                self._begin_block(block)
            case wire.ApiEvent(type="content_block_delta", delta=wire.Delta() as delta):
                self._delta(delta)
            case wire.ApiEvent(type="content_block_stop"):
                self._end_call()
            case wire.ApiEvent(type="message_delta", delta=wire.Delta(stop_reason=str(reason))):
                self._recorder.used(event.usage)
                self._end(reason)
            case wire.ApiEvent(type="message_stop"):
                # The CLI invents this one when the stream was cut before its end (2.1.330).
                self.break_round()
            case _:
                pass

    def whole(self, said: wire.ModelMessage) -> None:
        """A whole block of a model message. A built-in tool's call is told now, when its input is
        whole. All else is news only where no deltas came before it, which is when the CLI has given
        up a stream and asked again without (seen with an error event in the stream)."""
        if said.id in self._streamed:
            self._tools(said)
            return
        if self._whole != said.id:
            self._begin(said)
            self._whole = said.id
        for block in said.content if isinstance(said.content, list) else ():
            if block.type == "tool_use":
                self._whole_stop = "tool_use"
            self._begin_block(block)
            if self._call is not None and bytes(block.input) != b"{}":
                self._arguments = True
                self._out.append(CallDelta(bytes(block.input).decode()))
            self._end_call()
        self._tools(said)

    def _tools(self, said: wire.ModelMessage) -> None:
        for block in said.content if isinstance(said.content, list) else ():
            if block.type == "tool_use" and self._is_built_in(block.name):
                self._out.append(started(block.name, block.input))

    def _is_built_in(self, name: str) -> bool:
        return name != STRUCTURED_OUTPUT and self.functions.names.to_client(name) is None

    def end_whole(self) -> None:
        """A message that came in whole blocks ends with what follows it."""
        if self._whole is not None:
            self._end(self._whole_stop)
        self._whole, self._whole_stop = None, "end_turn"

    def break_round(self) -> None:
        """The message that is open was cut."""
        if self._open:
            self._open = False
            self._call = None
            self._held.clear()
            self.last_stop = None
            self._out.append(RoundBroken())

    def _begin(self, said: wire.ModelMessage) -> None:
        self.end_whole()
        self.break_round()
        self.functions.begin_round()
        self._open = True
        usage = self._recorder.started(said.model, said.usage)
        self._out.append(RoundStarted(said.model, usage))

    def _end(self, reason: str) -> None:
        self._open = False
        self.last_stop = reason
        self._out.append(RoundEnded(reason))

    def _begin_block(self, block: wire.Block) -> None:
        if block.type != "tool_use":
            if block.text:
                self._text(block.text)
        elif (call := self.functions.call(block.id, block.name)) is not None:
            self.called = True
            self._out.extend(self._held)
            self._held.clear()
            self._holding = False
            self._call, self._arguments = call[0], False
            self._out.append(CallStarted(*call))

    def _delta(self, delta: wire.Delta) -> None:
        match delta.type:
            case "text_delta" if delta.text:
                self._text(delta.text)
            case "thinking_delta" if delta.thinking:
                self._out.append(ThinkingDelta(delta.thinking))
            case "signature_delta" if delta.signature:
                self._out.append(ThinkingEnded(delta.signature))
            case "input_json_delta" if delta.partial_json and self._call is not None:
                self._arguments = True
                self._out.append(CallDelta(delta.partial_json))
            case _:
                pass

    def _text(self, text: str) -> None:
        if self._silent:
            return
        (self._held if self._holding else self._out).append(TextDelta(text))

    def _end_call(self) -> None:
        if self._call is not None and not self._arguments:
            self._out.append(CallDelta("{}"))
        self._call = None
