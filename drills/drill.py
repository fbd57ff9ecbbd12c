"""What a drill is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from drills.outcome import Outcome
from drills.site import Site


@dataclass(frozen=True)
class Drill:
    """A fault and what may come of it.

    `run` breaks something at the site once and looks at what comes of it; it is called `times`
    times, each followed by the health check. `variables` are settings of the daemon; drills that
    follow each other with the same ones use the same daemon.
    """

    name: str
    what: str
    run: Callable[[Site, Outcome], None]
    times: int = 3
    variables: Mapping[str, str] = field(default_factory=dict)
