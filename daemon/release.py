"""Streaming modes: which of a turn's events may reach the client, and when.

`live`: every event as it comes. `smart`: only the text of the last round; what the model says on
its way to a tool is held back until its round ends and then dropped. `adaptive`: as smart, but a
round's text is released as soon as it is long enough to be the answer; should its round go on to
a tool after all, the client has read a long remark.
"""

from collections.abc import Iterable
from typing import Final, get_args

from maxd.workers.faults import BadRequest, UpstreamFault
from maxd.workers.profiles import Streaming
from maxd.workers.turn import (
    CallStarted,
    Event,
    Finished,
    RoundBroken,
    RoundEnded,
    RoundStarted,
    TextDelta,
    ThinkingDelta,
    ToolStarted,
)
from maxd.workers.verdict import CUT_SHORT

ENOUGH: Final = 600
"""Characters after which a round's text is taken for the answer, in `adaptive`: a hundred words.
What models say before they call a tool is a sentence or two, up to three hundred characters; and at
60 tokens a second an answer is held back for no more than two and a half seconds."""

HEADER: Final = "X-Maxd-Stream"

# A round that ended so goes on in the next: the service paused, or the CLI asks for the rest.
_GOES_ON = CUT_SHORT | {"pause_turn"}


def parse_mode(text: str) -> Streaming:
    """The mode that a client names in `X-Maxd-Stream`. Raises BadRequest with the header's name."""
    modes: tuple[Streaming, ...] = get_args(Streaming)
    for mode in modes:
        if text == mode:
            return mode
    raise BadRequest(f"{HEADER} must be one of {', '.join(modes)}", param=HEADER)


class Release:
    """Filters the events of one turn. With `show_tools` the client is told, as thinking, which tool
    is run."""

    def __init__(self, mode: Streaming, *, show_tools: bool = False) -> None:
        self._mode = mode
        self._show_tools = show_tools
        self._held: list[TextDelta] = []
        # Text of a round that seemed to be the last, until another round says something.
        self._earlier: list[TextDelta] = []
        # How much of what is held was said before the round in progress, which goes on with it.
        self._before = 0
        # Whether text of the round in progress has gone to the client; and whether of it or those
        # that it goes on with.
        self._round_told = False
        self._told = False
        # Whether that of a round before it has, which called a tool.
        self._told_before = False
        self._last_stop = ""

    def feed(self, events: Iterable[Event]) -> list[Event]:
        """The events that may go to the client now, in order.

        Raises UpstreamFault when a round breaks of which the client already has a part: what the
        CLI tries next would be told behind it, as if it were its continuation.
        """
        released: list[Event] = []
        for event in events:
            match event:
                case TextDelta():
                    self._held.append(event)
                    if self._is_due():
                        self._tell(released)
                    continue
                case CallStarted():
                    # The client answers this one: what was said before it belongs to the reply.
                    self._tell(released)
                    self._told = self._round_told = True
                case ToolStarted(name, detail) if self._show_tools:
                    said = f"running {name}: {detail}\n" if detail else f"running {name}\n"
                    released.append(ThinkingDelta(said))
                case RoundStarted():
                    if self._held and self._last_stop not in _GOES_ON:
                        self._earlier, self._held = self._held, []
                    self._before = len(self._held)
                    self._round_told = False
                case RoundBroken() if self._round_told:
                    raise UpstreamFault("the service broke off in the middle of the answer")
                case RoundBroken():
                    del self._held[self._before :]
                case RoundEnded(stop):
                    self._last_stop = stop
                    if stop == "tool_use":
                        self._told_before |= self._told
                        self._held.clear()
                        self._earlier.clear()
                    if stop not in _GOES_ON:
                        self._told = False
                case Finished():
                    if not self._held:
                        self._held = self._earlier
                    self._tell(released)
                case _:
                    pass
            released.append(event)
        return released

    def _is_due(self) -> bool:
        if self._mode == "live" or self._told:
            return True
        enough = sum(len(held.text) for held in self._held) >= ENOUGH
        return self._mode == "adaptive" and enough

    def _tell(self, released: list[Event]) -> None:
        if self._held:
            if self._told_before and not self._told:
                # The rounds are paragraphs of their own.
                released.append(TextDelta("\n\n"))
            released.extend(self._held)
            self._held = []
            self._earlier = []
            self._before = 0
            self._told = self._round_told = True
