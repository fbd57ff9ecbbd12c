"""Streaming modes: which of a turn's events may reach the client, and when.

`live`: every event as it comes. `smart`: only the text of the round that calls no tool; what the
model says on its way to a tool is held back until the round ends and then dropped.
"""

from collections.abc import Iterable
from typing import Literal

from maxd.workers.faults import UpstreamFault
from maxd.workers.turn import CallStarted, Event, Finished, RoundBroken, RoundEnded, TextDelta


class Release:
    """Filters the events of one turn."""

    def __init__(self, mode: Literal["live", "smart"]) -> None:
        self._live = mode == "live"
        self._held: list[TextDelta] = []
        # Whether text of the round in progress has gone to the client.
        self._told = False

    def feed(self, events: Iterable[Event]) -> list[Event]:
        """The events that may go to the client now, in order.

        Raises UpstreamFault when a round breaks of which the client already has a part: what the
        CLI tries next would be told behind it, as if it were its continuation.
        """
        released: list[Event] = []
        for event in events:
            match event:
                case TextDelta() if not self._live:
                    self._held.append(event)
                    continue
                case TextDelta():
                    self._told = True
                case CallStarted():
                    # The client answers this one: what was said before it belongs to the reply.
                    released.extend(self._held)
                    self._held.clear()
                    self._told = True
                case RoundBroken() if self._told:
                    raise UpstreamFault("the service broke off in the middle of the answer")
                case RoundBroken() | RoundEnded(stop_reason="tool_use"):
                    self._held.clear()
                    self._told = False
                case RoundEnded() | Finished():
                    released.extend(self._held)
                    self._held.clear()
                    self._told = False
                case _:
                    pass
            released.append(event)
        return released
