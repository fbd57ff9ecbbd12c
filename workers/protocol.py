"""What is said on a worker's pipes, as pure code: bytes in, outputs and bytes out, no I/O.

protocol = Protocol(profile)
write(protocol.ask_ready())
protocol.feed(read())                  → [Ready(version)]
write(protocol.begin(turn))            binds the worker and gives it the history
protocol.feed(read())                  → [TextDelta(…), …, Finished(…)]
write(protocol.proceed(messages))      the next turn of the same conversation
write(protocol.reset())                …or let it forget that: [Cleared()], then `begin` again
write(protocol.data_to_send())         after every feed: answers, and the next of the history
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import TypeAlias

import msgspec
from msgspec import Struct

from maxd.workers import messages as wire
from maxd.workers.account_limits import account_limit
from maxd.workers.binding import binding, import_groups
from maxd.workers.faults import Fault, ProtocolBroken
from maxd.workers.lines import LineBuffer, LineTooLong
from maxd.workers.policy import decide
from maxd.workers.profiles import Profile
from maxd.workers.recorder import Recorder, usage_of
from maxd.workers.turn import (
    AccountLimit,
    Event,
    Finished,
    Message,
    Retrying,
    RoundBroken,
    RoundEnded,
    RoundStarted,
    TextDelta,
    ThinkingDelta,
    ToolStarted,
    Turn,
    TurnRecord,
)
from maxd.workers.verdict import fault_of, given_up

# Twice the largest line seen: a tool result of 50 MB passes, an endless line does not eat the host.
LINE_LIMIT = 128 * 1024 * 1024
# A CLI that prints this many lines which are no messages has another program's voice.
GARBAGE_LIMIT = 1000
# The model of a message in which the CLI itself speaks.
SYNTHETIC = "<synthetic>"


class Ready(Struct, frozen=True):
    """The worker has answered; it can be bound. `version` is the CLI's."""

    version: str


class Models(Struct, frozen=True):
    """The CLI's own list of models, as it gave it; None where it does not know the question."""

    listed: msgspec.Raw | None


class Cleared(Struct, frozen=True):
    """The worker has been reset: it holds no conversation any more, and is bound as before."""


Output: TypeAlias = Ready | Models | Cleared | Event | Fault
"""A Fault among the outputs is the last of its turn: the worker is not to be trusted any more."""


class Phase(Enum):
    """Where the conversation on the pipes stands."""

    STARTING = auto()
    READY = auto()
    IMPORTING = auto()
    ANSWERING = auto()
    IDLE = auto()
    RESETTING = auto()
    OVER = auto()


class Protocol:
    """One CLI process's side of the conversation; see the module for the order of calls."""

    def __init__(
        self,
        profile: Profile,
        *,
        line_limit: int = LINE_LIMIT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._profile = profile
        self._lines = LineBuffer(line_limit)
        self._clock = clock
        self._phase = Phase.STARTING
        self._to_send = bytearray()
        # What is left of the history; the last element ends in the message to answer.
        self._groups: deque[bytes] = deque()
        self._round_open = False
        # Ids of the model messages whose text came as deltas, so that the `assistant` message
        # that repeats it is not told twice.
        self._streamed: set[str] = set()
        # The id of the message that is coming in whole blocks, and why it will end.
        self._whole: str | None = None
        self._whole_stop = "end_turn"
        self._limit: AccountLimit | None = None
        self._last_stop: str | None = None
        self._model = ""
        # The system texts it is bound to: binding counts once, also through resets.
        self._bound: tuple[str, ...] | None = None
        # The CLI's session that the last result was of.
        self._session = ""
        self._recorder = Recorder(profile)
        self.garbage = 0

    def __repr__(self) -> str:
        return f"<Protocol {self._phase.name.lower()}, {len(self._groups)} groups to import>"

    @property
    def phase(self) -> Phase:
        return self._phase

    def ask_ready(self) -> bytes:
        """The question whose answer makes a worker ready."""
        return wire.encode(wire.AskLine("ready", wire.GetVersion()))

    def ask_models(self) -> bytes:
        """Ask a ready, unbound worker what models the CLI offers. The answer is a Models."""
        return wire.encode(wire.AskLine("models", wire.ListModels()))

    @property
    def record(self) -> TurnRecord:
        """What is to be kept of the last finished turn."""
        return self._recorder.record

    def begin(self, turn: Turn, known: int = 0, *, resumed: bool = False) -> bytes:
        """Bind the ready worker to `turn`; return the first write (binding and first message).
        `resumed`: it was started with a session. It holds the first `known` messages from there.
        After a reset it is bound already, and only given the history.

        Raises RuntimeError when the worker is not ready or is bound to other system texts.
        """
        if self._phase is not Phase.READY:
            raise RuntimeError(f"begin in phase {self._phase.name}")
        if self._bound not in (None, turn.system):
            raise RuntimeError("begin with other system texts than those it is bound to")
        self._groups.extend(import_groups(turn.messages[known:], turn.model))
        self._model = turn.model
        bind = b""
        if self._bound is None:
            bound = binding(self._profile, turn.system)
            if resumed:
                bound.system_prompt_snapshot = False
            bind = wire.encode(wire.AskLine("bind", bound))
            self._bound = turn.system
        return bind + self._next_group()

    def proceed(self, messages: Sequence[Message]) -> bytes:
        """Go on with the conversation the worker holds; return the first write. `messages` are
        those it does not have, ending in the one to answer.

        Raises RuntimeError when there is no turn that was finished.
        """
        if self._phase is not Phase.IDLE:
            raise RuntimeError(f"proceed in phase {self._phase.name}")
        self._groups.extend(import_groups(messages, self._model))
        self._streamed.clear()
        self._last_stop = None
        return self._next_group()

    def reset(self) -> bytes:
        """Let the idle worker forget its conversation; return the write. The answer is Cleared, or
        a ProtocolBroken if it is anything but that of a reset. `begin` has to wait for it: written
        together, a CLI that does not reset would answer the next conversation with this one's.

        Raises RuntimeError when no turn was finished, or the worker has tools: what those have
        done and left running no reset takes back.
        """
        if self._phase is not Phase.IDLE or self._profile.tools != "none":
            raise RuntimeError(
                f"reset of a worker with {self._profile.tools} tools in phase {self._phase.name}"
            )
        self._phase = Phase.RESETTING
        # Without the empty block of other user messages: this is for the CLI itself.
        return wire.encode(wire.UserLine(wire.UserContent([wire.TextBlock("/clear")])))

    def data_to_send(self) -> bytes:
        """What the worker must be told now; empty when nothing."""
        data = bytes(self._to_send)
        self._to_send.clear()
        return data

    def feed(self, data: bytes) -> list[Output]:
        """Add bytes of the worker's stdout; return what they mean, in order."""
        outputs: list[Output] = []
        try:
            for line in self._lines.feed(data):
                # isspace: some shells' wrappers end lines with a carriage return.
                if line and not line.isspace():
                    self._line(line, outputs)
        except LineTooLong:
            if self._phase is not Phase.OVER:
                self._broken("printed an endless line", outputs)
        return outputs

    def _line(self, line: bytes, out: list[Output]) -> None:
        if self._phase is Phase.OVER:
            return
        try:
            message = wire.decode(line)
        except wire.Garbage:
            self.garbage += 1
            if self.garbage > GARBAGE_LIMIT:
                self._broken("printed too much that is no message", out)
            return
        except wire.BrokenMessage as broken:
            self._broken(f"sent a {broken} message of an unknown shape", out)
            return
        match message:
            case wire.StreamEvent() | wire.Assistant() | wire.Result() if self._phase is Phase.IDLE:
                # Its conversation has gone on without its client: nobody knows where it stands.
                self._broken("spoke without being asked", out)
            case wire.Assistant(message=said) if said.model == SYNTHETIC:
                pass  # The CLI itself speaking; 2.1.197 does so at a reset.
            case wire.StreamEvent() | wire.Assistant() if self._phase is Phase.RESETTING:
                self._broken("asked the model when it was to be reset", out)
            case wire.StreamEvent(parent_tool_use_id=None, event=event):
                self._api_event(event, out)
            case wire.Assistant(parent_tool_use_id=None, message=said):
                self._assistant(said, out)
                self._recorder.said(message.uuid)
            case wire.ControlRequest():
                self._asked(message)
            case wire.ControlResponse(response=reply):
                self._answered(reply, out)
            case wire.System(subtype="api_retry"):
                out.append(
                    Retrying(message.attempt, message.retry_delay_ms / 1000, message.error_status)
                )
            case wire.RateLimitEvent(rate_limit_info=info):
                self._limit = account_limit(info)
                out.append(self._limit)
            case wire.Result():
                self._result(message, out)
            case _:
                pass

    def _api_event(self, event: wire.ApiEvent, out: list[Output]) -> None:
        match event:
            case wire.ApiEvent(type="message_start", message=wire.ModelMessage() as said):
                self._streamed.add(said.id)
                self._begin_round(said.model, out)
                self._recorder.started(said.model, said.usage)
            case wire.ApiEvent(type="content_block_start", content_block=wire.Block() as block):
                if block.type == "tool_use":
                    out.append(ToolStarted(block.name))
                elif block.text:
                    out.append(TextDelta(block.text))
            case wire.ApiEvent(type="content_block_delta", delta=wire.Delta() as delta):
                if delta.type == "text_delta" and delta.text:
                    out.append(TextDelta(delta.text))
                elif delta.type == "thinking_delta" and delta.thinking:
                    out.append(ThinkingDelta(delta.thinking))
            case wire.ApiEvent(type="message_delta", delta=wire.Delta(stop_reason=str(reason))):
                self._recorder.used(event.usage)
                self._end_round(reason, out)
            case wire.ApiEvent(type="message_stop"):
                # The CLI invents this one when the stream was cut before its end (2.1.330).
                self._break_round(out)
            case _:
                pass

    def _assistant(self, said: wire.ModelMessage, out: list[Output]) -> None:
        """A whole block of a model message: news only where no deltas came before it, which is
        when the CLI has given up a stream and asked again without (seen with an error event in
        the stream)."""
        if said.id in self._streamed:
            return
        if self._whole != said.id:
            self._begin_round(said.model, out)
            self._recorder.started(said.model, said.usage)
            self._whole = said.id
        for block in said.content if isinstance(said.content, list) else ():
            if block.type == "text" and block.text:
                out.append(TextDelta(block.text))
            elif block.type == "tool_use":
                self._whole_stop = "tool_use"
                out.append(ToolStarted(block.name))

    def _begin_round(self, model: str, out: list[Output]) -> None:
        self._end_whole(out)
        self._break_round(out)
        self._round_open = True
        out.append(RoundStarted(model))

    def _end_whole(self, out: list[Output]) -> None:
        """A message that came in whole blocks ends with what follows it."""
        if self._whole is not None:
            self._end_round(self._whole_stop, out)
        self._whole, self._whole_stop = None, "end_turn"

    def _break_round(self, out: list[Output]) -> None:
        if self._round_open:
            self._round_open = False
            self._last_stop = None
            out.append(RoundBroken())

    def _end_round(self, reason: str, out: list[Output]) -> None:
        self._round_open = False
        self._last_stop = reason
        out.append(RoundEnded(reason))

    def _asked(self, message: wire.ControlRequest) -> None:
        reply: wire.Granted | wire.Unsupported
        if message.request.subtype == "can_use_tool":
            reply = wire.Granted(message.request_id, decide(self._profile, message.request))
        else:
            reply = wire.Unsupported(message.request_id, "not supported")
        self._to_send += wire.encode(wire.ReplyLine(reply))

    def _answered(self, reply: wire.ControlReply, out: list[Output]) -> None:
        failed = reply.subtype != "success"
        match reply.request_id:
            case "ready" if self._phase is Phase.STARTING:
                # An error is an answer too: a CLI that does not know the question is ready.
                version = "" if failed else _version(reply.response)
                self._phase = Phase.READY
                out.append(Ready(version))
            case "models" if self._phase is Phase.READY:
                out.append(Models(None if failed else reply.response))
            case "bind" if failed:
                self._broken("refused to be bound", out)
            case _:
                pass

    def _result(self, result: wire.Result, out: list[Output]) -> None:
        before, self._session = self._session, result.session_id
        if self._phase is not Phase.ANSWERING:
            # After a reset 2.1.330 begins its count of the cost anew, 2.1.197 goes on.
            self._recorder.counted(result)
        if self._phase is Phase.RESETTING:
            self._end_reset(result, before, out)
        elif result.is_error:
            self._phase = Phase.OVER
            self._end_whole(out)
            if (reason := given_up(result, None if self._round_open else self._last_stop)) is None:
                out.append(fault_of(result, self._limit, self._clock()))
            else:
                self._recorder.finished(result)
                out.append(Finished(reason, usage_of(result)))
        elif self._phase is Phase.IMPORTING:
            self._to_send += self._next_group()
        elif self._phase is Phase.ANSWERING:
            self._end_whole(out)
            self._break_round(out)
            if self._last_stop is None:
                self._broken("ended the turn without a whole answer", out)
                return
            self._phase = Phase.IDLE
            self._recorder.finished(result)
            out.append(Finished(result.stop_reason or self._last_stop, usage_of(result)))

    def _end_reset(self, result: wire.Result, before: str, out: list[Output]) -> None:
        """A CLI that knows no `/clear` says so in a result that is a success as well. What both
        2.1.197 and 2.1.330 do, and nothing else does, is to say nothing and go on under a new
        session id. (2.1.330 also prints a `conversation_reset`.)"""
        silent = not result.is_error and result.num_turns == 0 and not result.result
        if not silent or not before or result.session_id in ("", before):
            self._broken("did not do a reset as expected", out)
            return
        self._phase = Phase.READY
        self._streamed.clear()
        self._last_stop = None
        out.append(Cleared())

    def _next_group(self) -> bytes:
        group = self._groups.popleft()
        self._phase = Phase.IMPORTING if self._groups else Phase.ANSWERING
        return group

    def _broken(self, what: str, out: list[Output]) -> None:
        self._phase = Phase.OVER
        out.append(ProtocolBroken(f"the claude CLI {what}"))


def _version(response: msgspec.Raw) -> str:
    try:
        return msgspec.json.decode(response, type=_Version).version
    except msgspec.DecodeError:
        return ""


class _Version(Struct):
    version: str = ""
