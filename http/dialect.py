"""What a dialect is: what it makes of a body, and what makes replies of events.

A dialect translates. It knows nothing of workers, and nothing but its own modules knows its words:
the routes hand its decoder a body, and its encoders the events of the turn.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol, TypeAlias

from msgspec import Struct

from maxd.workers.faults import Fault
from maxd.workers.turn import Event, Turn

FindModel: TypeAlias = Callable[[str], tuple[str, str]]
"""A model id to (profile, the CLI's word for the model); raises ModelNotFound."""


class StreamEncoder(Protocol):
    """Makes server-sent events of one turn."""

    def encode(self, events: Iterable[Event]) -> bytes:
        """The bytes to send for `events`, in one piece; may be empty."""

    def heartbeat(self) -> bytes:
        """What keeps the client's timers alive, and says nothing."""

    def error(self, fault: Fault) -> bytes:
        """The end of a stream that failed."""


class Collector(Protocol):
    """Makes one object of one turn."""

    def feed(self, events: Iterable[Event]) -> bytes | None:
        """The body of the reply once the turn is finished; None until then."""


class Asked(Struct, frozen=True, kw_only=True):
    """A decoded request: the turn, and how the client wants its reply. `ignored` names what was
    accepted without effect. `encoder` and `collector` make one for the reply. `settle` is waited
    for before the end of a finished reply is sent."""

    turn: Turn
    stream: bool
    ignored: tuple[str, ...] = ()
    encoder: Callable[[], StreamEncoder]
    collector: Callable[[], Collector]
    settle: Callable[[], Awaitable[None]] | None = None
