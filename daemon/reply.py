"""The reply of a turn as the client saw it: what its conversation's head is made of."""

from collections.abc import Iterable

from maxd.workers.turn import CallDelta, CallStarted, Event, Part, Text, TextDelta, ToolCall


class Reply:
    """Gathers the events that went to the client."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._calls: list[tuple[str, str, list[str]]] = []

    def feed(self, events: Iterable[Event]) -> None:
        for event in events:
            match event:
                case TextDelta(text):
                    self._text.append(text)
                case CallStarted(call_id, name):
                    self._calls.append((call_id, name, []))
                case CallDelta(arguments):
                    self._calls[-1][2].append(arguments)
                case _:
                    pass

    @property
    def parts(self) -> tuple[Part, ...]:
        """Its text, joined, and its calls."""
        text = "".join(self._text)
        calls = (ToolCall(call_id, name, "".join(said)) for call_id, name, said in self._calls)
        return (*([Text(text)] if text else []), *calls)

    @property
    def calls(self) -> tuple[str, ...]:
        """The ids of its calls."""
        return tuple(call_id for call_id, _, _ in self._calls)
