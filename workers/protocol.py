"""What is said on a worker's pipes, as pure code: bytes in, outputs and bytes out, no I/O.

protocol = Protocol(profile)
write(protocol.ask_ready())
protocol.feed(read())                  → [Ready(version)]
write(protocol.begin(turn))            binds the worker and gives it the history
protocol.feed(read())                  → [TextDelta(…), …, Finished(…)]
write(protocol.proceed(turn, known))   the next turn, or the results of the last one's calls
write(protocol.reset())                …or let it forget that: [Cleared()], then `begin` again
write(protocol.data_to_send())         after every feed: answers, and the next of the history
"""

import time
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import replace

from maxd.workers import blocks
from maxd.workers import messages as wire
from maxd.workers.account_limits import LimitsHeard
from maxd.workers.binding import asked_again, binding, import_groups, said_meanwhile
from maxd.workers.effort import EffortSetting
from maxd.workers.faults import ChoiceNotMade, Fault, ProtocolBroken, SchemaNotMet
from maxd.workers.functions import FunctionServer, called_in
from maxd.workers.lines import LineBuffer, LineTooLong
from maxd.workers.phases import WAITING, Phase
from maxd.workers.policy import Decisions, Policy
from maxd.workers.profiles import Profile
from maxd.workers.recorder import Recorder
from maxd.workers.rounds import Rounds
from maxd.workers.turn import (
    Effort,
    Event,
    Finished,
    Retrying,
    TextDelta,
    ToolResult,
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


class Protocol:
    """One CLI process's side of the conversation; see the module for the order of calls."""

    def __init__(
        self,
        profile: Profile,
        *,
        decisions: Decisions | None = None,
        line_limit: int = LINE_LIMIT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._profile = profile
        self._policy = Policy(profile, decisions)
        self._lines = LineBuffer(line_limit)
        self._clock = clock
        self._phase = Phase.STARTING
        self._to_send = bytearray()
        # What is left of the history; the last element ends in the message to answer.
        self._groups: deque[bytes] = deque()
        self._limits = LimitsHeard()
        self._turn: Turn | None = None
        # What it is bound to: binding counts once, also through resets.
        self._bound: wire.Initialize | None = None
        # The CLI's session that the last result was of.
        self._session = ""
        self._asked_again = False
        self._effort = EffortSetting()
        self._recorder = Recorder(profile)
        self._functions = FunctionServer(())
        self._rounds = Rounds(self._recorder, self._functions)
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

    @property
    def pending(self) -> tuple[str, ...]:
        """The ids of the client's calls whose results a parked worker waits for."""
        return self._functions.pending

    @property
    def effort(self) -> Effort | None:
        """What the process has been set to."""
        return self._effort.now

    def begin(self, turn: Turn, known: int = 0, *, resumed: bool = False) -> bytes:
        """Bind the ready worker to `turn`; return the first write (binding and first message).
        `resumed`: it was started with a session. It holds the first `known` messages from there.
        After a reset it is bound already, and only given the history.

        Raises RuntimeError when the worker is not ready or is bound to something else."""
        if self._phase is not Phase.READY:
            raise RuntimeError(f"begin in phase {self._phase.name}")
        gone = [*called_in(turn.messages)]
        functions = FunctionServer(turn.functions, gone)
        bound = binding(self._profile, turn, functions=bool(turn.functions or gone))
        if self._bound not in (None, bound):
            raise RuntimeError("begin with another binding than its own")
        bind = b""
        if self._bound is None:
            self._bound = bound
            self._functions = self._rounds.functions = functions
            line = replace(bound, system_prompt_snapshot=False if resumed else UNSET)
            bind = wire.encode(wire.AskLine("bind", line))
        return bind + self._give(turn, known)

    def proceed(self, turn: Turn, known: int) -> bytes:
        """Go on with the conversation the worker holds; return the first write. It has the first
        `known` messages of `turn`. A parked worker is handed the results of its calls, which come
        first among the others; what the user has said after them it is told as said meanwhile.

        Raises RuntimeError when there is no turn that was finished."""
        if self._phase is Phase.PARKED:
            results, *rest = turn.messages[known:]
            said = b"".join(map(said_meanwhile, rest))
            self._phase = Phase.ANSWERING
            self._begin_turn(turn)
            given = [part for part in results.parts if isinstance(part, ToolResult)]
            return self._effort.change(turn.effort) + said + self._functions.give(given)
        if self._phase is not Phase.IDLE:
            raise RuntimeError(f"proceed in phase {self._phase.name}")
        return self._give(turn, known)

    def _give(self, turn: Turn, known: int) -> bytes:
        names = self._functions.names
        self._groups.extend(import_groups(turn.messages[known:], turn.model, names))
        self._begin_turn(turn)
        return self._effort.change(turn.effort) + self._next_group()

    def _begin_turn(self, turn: Turn) -> None:
        self._turn = turn
        self._asked_again = False
        self._rounds.begin_turn(turn)

    def interrupt(self) -> bytes:
        """End the turn that is being answered; return the write. It ends with a Finished, and what
        the worker holds then is not what its client saw: all it is good for is a reset.

        Raises RuntimeError when no turn is being answered."""
        if self._phase is not Phase.ANSWERING:
            raise RuntimeError(f"interrupt in phase {self._phase.name}")
        self._phase = Phase.INTERRUPTED
        return wire.encode(wire.AskLine("interrupt", wire.Interrupt()))

    def reset(self) -> bytes:
        """Let the idle worker forget its conversation; return the write. The answer is Cleared, or
        a ProtocolBroken if it is anything but that of a reset. `begin` has to wait for it: written
        together, a CLI that does not reset would answer the next conversation with this one's.

        Raises RuntimeError when no turn was finished, or the worker has tools: what those have
        done and left running no reset takes back.
        """
        if self._phase is not Phase.IDLE or self._profile.has_tools:
            raise RuntimeError(
                f"reset of a worker with {self._profile.tools} tools in phase {self._phase.name}"
            )
        self._phase = Phase.RESETTING
        # Without the empty block of other user messages: this is for the CLI itself.
        return wire.encode(wire.UserLine(wire.UserContent([blocks.TextBlock("/clear")])))

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
            case wire.StreamEvent() | wire.Assistant() | wire.Result() if self._phase in WAITING:
                # Its conversation has gone on without its client: nobody knows where it stands.
                self._broken("spoke without being asked", out)
            case wire.Assistant(message=said) if said.model == SYNTHETIC:
                pass  # The CLI itself speaking; 2.1.197 does so at a reset.
            case wire.StreamEvent() | wire.Assistant() if self._phase is Phase.RESETTING:
                self._broken("asked the model when it was to be reset", out)
            case wire.StreamEvent(parent_tool_use_id=None, event=event):
                out.extend(self._limits.take_late(self._clock()))
                self._rounds.event(event)
                out.extend(self._rounds.take())
                if event.type == "message_stop":
                    self._park(out)
            case wire.Assistant(parent_tool_use_id=None, message=said):
                self._rounds.whole(said)
                out.extend(self._rounds.take())
                self._recorder.said(message.uuid)
            case wire.ControlRequest():
                self._asked(message, out)
            case wire.ControlResponse(response=reply):
                self._answered(reply, out)
            case wire.System(subtype="api_retry"):
                out.append(
                    Retrying(message.attempt, message.retry_delay_ms / 1000, message.error_status)
                )
            case wire.RateLimitEvent(rate_limit_info=info):
                out.extend(self._limits.hear(info, in_turn=self._phase is not Phase.PARKED))
            case wire.Result():
                self._result(message, out)
            case _:
                pass

    def _asked(self, message: wire.ControlRequest, out: list[Output]) -> None:
        reply: wire.Granted | wire.Unsupported
        if message.request.subtype == "mcp_message":
            self._to_send += self._functions.handle(message.request_id, message.request.message)
            # A streamed message may have more calls to tell.
            if self._functions.is_waiting and self._rounds.is_endless:
                self._end_whole(out)
                self._park(out)
            return
        reply = wire.Unsupported(message.request_id, "not supported")
        if message.request.subtype == "can_use_tool":
            reply = wire.Granted(message.request_id, self._policy.decide(message.request))
        self._to_send += wire.encode(wire.ReplyLine(reply))

    def _end_whole(self, out: list[Output]) -> None:
        self._rounds.end_whole()
        out.extend(self._rounds.take())

    def _park(self, out: list[Output]) -> None:
        """The model has ended its message with calls of the client's functions: the turn is over,
        and the next one brings their results."""
        if self._phase is Phase.ANSWERING and self._functions.pending:
            if self._rounds.is_cut and not self._functions.is_waiting:
                return  # It is asked for again, and the next message settles the calls of this one.
            if self._rounds.last_stop != "tool_use":
                self._broken("ended a message in the middle of a call", out)
                return
            self._phase = Phase.PARKED
            out.append(Finished("tool_use", self._recorder.parked()))

    def _answered(self, reply: wire.ControlReply, out: list[Output]) -> None:
        failed = reply.subtype != "success"
        match reply.request_id:
            case "ready" if self._phase is Phase.STARTING:
                # An error is an answer too: a CLI that does not know the question is ready.
                version = "" if failed else wire.version_in(reply.response)
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
        if self._phase not in (Phase.ANSWERING, Phase.INTERRUPTED):
            # After a reset 2.1.330 begins its count of the cost anew, 2.1.197 goes on.
            self._recorder.counted(result)
        if self._phase is Phase.INTERRUPTED:
            self._phase = Phase.IDLE
            out.append(Finished("interrupted", self._recorder.finished(result)))
        elif self._phase is Phase.RESETTING:
            self._end_reset(result, before, out)
        elif result.is_error:
            self._phase = Phase.OVER
            self._rounds.end_whole()
            out.extend(self._rounds.take())
            if (reason := given_up(result, self._rounds.ended)) is not None:
                out.append(Finished(reason, self._recorder.finished(result)))
            else:
                out.append(fault_of(result, self._limits.last, self._clock()))
        elif self._phase is Phase.IMPORTING:
            self._to_send += self._next_group()
        elif self._phase is Phase.ANSWERING:
            self._end_whole(out)
            self._rounds.break_round()
            out.extend(self._rounds.take())
            self._end_turn(result, out)

    def _end_turn(self, result: wire.Result, out: list[Output]) -> None:
        turn, stop = self._turn, result.stop_reason or self._rounds.last_stop
        assert turn is not None
        if self._rounds.last_stop is None or stop is None:
            self._broken("ended the turn without a whole answer", out)
        elif turn.tool_choice.mode == "required" and not self._rounds.called:
            self._ask_again(result, out)
        elif turn.schema is not None and bytes(result.structured_output) in (b"", b"null"):
            self._phase = Phase.OVER
            out.append(SchemaNotMet("the model did not give an answer of the schema"))
        else:
            self._phase = Phase.IDLE
            usage = self._recorder.finished(result)
            if turn.schema is not None:
                # By a call of the CLI's own tool, which is not for the client to answer.
                stop = "end_turn"
                out.append(TextDelta(bytes(result.structured_output).decode()))
            out.append(Finished(stop, usage))

    def _ask_again(self, result: wire.Result, out: list[Output]) -> None:
        """The model has answered in words where it had to call a function."""
        if self._asked_again:
            self._phase = Phase.OVER
            out.append(ChoiceNotMade("the model did not call a function", param="tool_choice"))
            return
        self._asked_again = True
        self._recorder.carry(result)
        self._rounds.ask_again()
        self._to_send += asked_again()

    def _end_reset(self, result: wire.Result, before: str, out: list[Output]) -> None:
        """A CLI that knows no `/clear` says so in a result that is a success as well. What both
        2.1.197 and 2.1.330 do, and nothing else does, is to say nothing and go on under a new
        session id. (2.1.330 also prints a `conversation_reset`.)"""
        silent = not result.is_error and result.num_turns == 0 and not result.result
        if not silent or not before or result.session_id in ("", before):
            self._broken("did not do a reset as expected", out)
            return
        self._phase = Phase.READY
        out.append(Cleared())

    def _next_group(self) -> bytes:
        group = self._groups.popleft()
        self._phase = Phase.IMPORTING if self._groups else Phase.ANSWERING
        return group

    def _broken(self, what: str, out: list[Output]) -> None:
        self._phase = Phase.OVER
        out.append(ProtocolBroken(f"the claude CLI {what}"))
