"""Facts as the daemon tells them, for those that count and show them."""

from typing import Any

from maxd.daemon.chronicle import Totals
from maxd.daemon.history import Point
from maxd.daemon.observer import Replied
from maxd.daemon.settings import Config
from maxd.daemon.status import (
    CliStatus,
    LimitStatus,
    MostEver,
    NotificationStatus,
    PoolStatus,
    ProbeStatus,
    Status,
    WorkerStatus,
    shown_settings,
)
from maxd.daemon.turn_facts import Timings, TurnFacts
from maxd.workers.policy import Count
from maxd.workers.turn import Usage

USAGE = Usage(input_tokens=10, cache_read_tokens=20, output_tokens=5)
NOW = 1_800_000_000.0


def turn(**how: Any) -> TurnFacts:
    """A finished turn, or as `how` has it."""
    facts = {
        "request": "req_1",
        "dialect": "chat",
        "key": None,
        "conversation": "conv_1",
        "profile": "chat",
        "model": "sonnet",
        "messages": 1,
        "worker": "w1",
        "continued": False,
        "attempts": 1,
        "timings": Timings(queue=0.5, spawn=0.0, first_text=1.0, total=2.0),
        "outcome": "finished",
        "usage": USAGE,
        "cost": 0.25,
    }
    return TurnFacts(**{**facts, **how})


def replied(**how: Any) -> Replied:
    """A refusal that never became a turn, or as `how` has it."""
    facts = {
        "request": "req_1",
        "method": "POST",
        "route": "/chat/completions",
        "status": 400,
        "code": None,
        "seconds": 0.1,
        "turn": False,
    }
    return Replied(**{**facts, **how})


def worker(**how: Any) -> WorkerStatus:
    facts = {
        "id": "w1",
        "pid": 4711,
        "state": "leased",
        "profile": "chat",
        "model": "sonnet",
        "conversation": "conv_1",
        "request": "req_1",
        "turn_age": 3.0,
        "last_activity": 0.5,
        "cpu": 12.5,
        "memory": 200 * 2**20,
        "turns": 3,
    }
    return WorkerStatus(**{**facts, **how})


def status(**how: Any) -> Status:
    """A daemon in the middle of its work, or as `how` has it."""
    facts = {
        "version": "1.2.3",
        "pid": 1,
        "state": "serving",
        "problem": None,
        "now": NOW,
        "started_at": NOW - 100_000,
        "uptime": 100_000.0,
        "cli": CliStatus(
            path="/usr/bin/claude",
            version="2.1.330",
            login="logged_in",
            method="claude.ai",
            probes=(
                ProbeStatus(name="bind", passed=True),
                ProbeStatus(name="schema", passed=None),
                ProbeStatus(
                    name="reset", passed=False, reason="it remembers", switches_off="the reuse"
                ),
            ),
        ),
        "config": shown_settings(Config()),
        "limits": (
            LimitStatus(
                window="five_hour", status="allowed", utilization=0.42, resets_at=NOW + 7500
            ),
            LimitStatus(window="seven_day", status="rejected", utilization=1.0, resets_at=NOW + 60),
        ),
        "notifications": NotificationStatus(channels=("ntfy",), sent=2, failed=1),
        "pool": PoolStatus(
            size=3,
            limit=4,
            spares=1,
            leased=1,
            parked=1,
            idle=0,
            starting=0,
            ending=0,
            stuck=1,
            queued=2,
            queue_limit=256,
            queue_age=1.5,
            most=MostEver(workers=4, turns=9, queued=5),
        ),
        "running": 2,
        "conversations": 7,
        "workers": (worker(), worker(id="w2", state="stuck", pid=None, cpu=None, memory=None)),
        "decisions": {"Bash": Count(4, 1), "Read": Count(2)},
        "totals": Totals(turns=12, finished=10, failed=2, cost_usd=1.5),
        "errors": (),
        "events": (),
        "history": (Point(at=NOW - 30, turns=3, failed=1, first_text=0.5, total=2.0),),
    }
    return Status(**{**facts, **how})
