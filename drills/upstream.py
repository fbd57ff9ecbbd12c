"""Faults of the service: errors, answers that are cut, silence, and nobody there."""

from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from drills.drill import Drill
from drills.outcome import Outcome
from drills.site import Site
from tests.end_to_end.running import LoopbackProcess

TOLD: Final = "the turn, with an error that says so"


def fail(site: Site, outcome: Outcome, *, codes: set[tuple[int, str]], **reply: Any) -> None:
    """One turn that the service fails as `reply` says, while another one is answered."""
    with site.stream(words=60) as beside:
        refused = site.refusal(**reply)
        outcome.loses(TOLD, refused in codes, refused)
        ended = beside.end()
        outcome.survives("the turn beside it", ended == "whole", ended)


def stop_service(site: Site, outcome: Outcome) -> None:
    """Nobody listens for a while; then the service is back at its address."""
    port = urlsplit(site.model.base_url).port or 0
    with site.stream(words=2000) as victim:
        site.model.close()
        told = victim.end()
        outcome.loses("the turn that ran, with an error that says so", told in UPSTREAM, told)
    refused = site.refusal(text="anybody?")
    outcome.loses("a turn meanwhile, with an error that says so", refused[1] in UPSTREAM, refused)
    site.model = LoopbackProcess(port=port)
    site.go_on()
    outcome.survives("the conversation, all of it, when it is back", True)


UPSTREAM: Final = {"upstream_error", "upstream_unreachable"}

DRILLS: Final = (
    Drill(
        "service-500",
        "the service answers 500",
        partial(fail, error=500, codes={(502, "upstream_error")}),
        2,
    ),
    Drill(
        "service-529",
        "the service answers 529",
        partial(fail, error=529, codes={(503, "overloaded")}),
        2,
    ),
    Drill(
        "service-cut",
        "the service cuts its answer in the middle",
        # Whether the CLI gives up, or tries again behind what the client has already read.
        partial(
            fail, words=50, cut=5, codes={(502, "upstream_unreachable"), (502, "upstream_error")}
        ),
        2,
    ),
    Drill(
        "service-cut-early",
        "the service closes before it answers",
        partial(fail, words=50, cut=-1, codes={(502, "upstream_unreachable")}),
        2,
    ),
    Drill(
        "service-silent",
        "the service goes silent in its answer",
        partial(fail, words=50, stall=5, codes={(504, "turn_timeout")}),
        2,
    ),
    Drill("service-gone", "the service is away, and back", stop_service, 2),
)
