"""Where the conversation on a worker's pipes stands."""

from enum import Enum, auto


class Phase(Enum):
    STARTING = auto()
    READY = auto()
    IMPORTING = auto()
    ANSWERING = auto()
    INTERRUPTED = auto()
    PARKED = auto()
    IDLE = auto()
    RESETTING = auto()
    OVER = auto()


WAITING = (Phase.IDLE, Phase.PARKED)
"""Nothing may come of the model until the client has spoken."""
