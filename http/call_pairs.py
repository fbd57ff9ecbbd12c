"""Calls and their results in a history, brought into the one form that the model's API takes.

There every call has an id of its own, and the message after the calls begins with exactly their
results. Clients' histories are not always like that: an agent was stopped before a result, a
result outlived the compaction that took its call, ids repeat, calls of one round come as several
messages. The same history always becomes the same messages, or its next turn would not be known.
"""

from collections import deque
from collections.abc import Iterable

from msgspec import Struct, field
from msgspec.structs import replace

from maxd.workers.turn import Document, Image, Message, Part, Text, ToolCall, ToolResult

NO_RESULT = "No result was given."
ORPHAN = "The result of an earlier function call:"
ORPHAN_EMPTY = "An earlier function call returned nothing."


def paired(messages: Iterable[Message], *, partial: bool = False) -> tuple[Message, ...]:
    """`messages` with each round of calls followed by a user message of exactly their results, in
    the order of the calls.

    A result belongs to a call of its id that came with the last assistant message, wherever it
    stands before the next one; what else the user has said follows it. A call without one gets an
    error for a result; a result without a call becomes text of the user's. With `partial` the
    messages may begin in the middle of a conversation, and results before the first assistant
    message are left as they are.
    """
    pairing = _Pairing(partial)
    for message in messages:
        pairing.add(message)
    return pairing.end()


class _Call(Struct):
    """A call of the round in progress and what it has brought."""

    id: str
    answered: bool = False
    parts: list[Text | Image | Document] = field(default_factory=list)
    is_error: bool = False

    def result(self) -> ToolResult:
        if not self.answered:
            return ToolResult(self.id, (Text(NO_RESULT),), is_error=True)
        return ToolResult(self.id, tuple(self.parts), self.is_error)


class _Pairing:
    # Lists and dicts only: every step takes time in proportion to what it adds.
    def __init__(self, partial: bool) -> None:
        self._messages: list[Message] = []
        self._used: set[str] = set()
        # How often an id was given another.
        self._repeats: dict[str, int] = {}
        # Results before the first assistant message; None where that is not allowed or past.
        self._leading: list[Part] | None = [] if partial else None
        # The round in progress: answers without calls, the one with them, its calls, those without
        # a result by the id that the client gave them, and what the user has said besides.
        self._plain: list[Message] = []
        self._answer: list[Part] = []
        self._calls: list[_Call] = []
        self._waiting: dict[str, deque[_Call]] = {}
        self._said: list[Message] = []
        self._begun = False

    def add(self, message: Message) -> None:
        if message.role == "assistant":
            self._add_answer(message.parts)
        else:
            self._add_said(message.parts)

    def end(self) -> tuple[Message, ...]:
        self._settle()
        return tuple(self._messages)

    def _settle(self) -> None:
        """The round is over: the answer, its results, then what the user has said."""
        self._messages.extend(self._plain)
        if self._answer:
            self._messages.append(Message("assistant", tuple(self._answer)))
        if self._leading:
            self._messages.append(Message("user", tuple(self._leading)))
        if self._calls:
            self._messages.append(Message("user", tuple(call.result() for call in self._calls)))
        self._messages.extend(self._said)
        self._plain, self._answer, self._calls, self._said = [], [], [], []
        self._waiting = {}
        self._leading = None
        self._begun = False

    def _add_answer(self, parts: tuple[Part, ...]) -> None:
        calls = any(isinstance(part, ToolCall) for part in parts)
        if self._begun or (self._calls and not calls):
            self._settle()
        self._leading = None
        if not calls:
            self._plain.append(Message("assistant", parts))
            return
        # One round may be told as several messages.
        for plain in self._plain:
            self._answer.extend(plain.parts)
        self._plain = []
        self._answer.extend(self._renamed(part) for part in parts)

    def _renamed(self, part: Part) -> Part:
        if not isinstance(part, ToolCall):
            return part
        told = base = part.id or "call"
        while told in self._used:
            self._repeats[base] = self._repeats.get(base, 1) + 1
            told = f"{base}-{self._repeats[base]}"
        self._used.add(told)
        call = _Call(told)
        self._calls.append(call)
        self._waiting.setdefault(part.id, deque()).append(call)
        return replace(part, id=told)

    def _add_said(self, parts: tuple[Part, ...]) -> None:
        self._begun = True
        said: list[Part] = []
        for part in parts:
            if isinstance(part, ToolResult):
                self._add_result(part, said)
            else:
                said.append(part)
        if said:
            self._said.append(Message("user", tuple(said)))

    def _add_result(self, result: ToolResult, said: list[Part]) -> None:
        if self._leading is not None:
            self._leading.append(result)
        elif waiting := self._waiting.get(result.call_id):
            # The last of them takes what is told twice: nothing of it may be lost.
            call = waiting[0] if len(waiting) == 1 else waiting.popleft()
            call.answered = True
            call.parts.extend(result.parts)
            call.is_error = call.is_error or result.is_error
        elif result.parts:
            said.extend((Text(ORPHAN), *result.parts))
        else:
            said.append(Text(ORPHAN_EMPTY))
