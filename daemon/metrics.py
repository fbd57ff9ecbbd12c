"""The metrics for Prometheus: counted as things happen, or read when they are asked for.

Everything lies in a registry of the daemon's own. Labels that clients have a say in are bounded.
"""

from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from maxd.daemon.chronicle import TURN_FAILED
from maxd.daemon.labels import Labels
from maxd.daemon.observer import Observer, Replied
from maxd.daemon.slots import Key
from maxd.daemon.status import Status
from maxd.daemon.turn_facts import TurnFacts
from maxd.workers.faults import Fault

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4

# A turn without tools takes seconds, an agent's up to hours.
DURATIONS: Final = (0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)
FIRST_TOKENS: Final = (0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 20, 30, 60, 120, 300)
WAITS: Final = (0.001, 0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120)
STARTS: Final = (0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 20, 30)
MOST_MODELS: Final = 50
MOST_REASONS: Final = 50
MOST_KEYS: Final = 50


class Metrics(Observer):
    """Counts what it is told; `render` adds the state at the moment."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._models = Labels(MOST_MODELS)
        self._reasons = Labels(MOST_REASONS)
        self._outcomes = Labels(MOST_REASONS)
        self._keys = Labels(MOST_KEYS)
        self._turns = Counter(
            "maxd_turns",
            "Turns that have ended",
            ("dialect", "profile", "outcome", "key"),
            registry=registry,
        )
        self._replies = Counter(
            "maxd_http_requests",
            "HTTP requests by route and status",
            ("route", "status"),
            registry=registry,
        )
        self._durations = Histogram(
            "maxd_turn_seconds",
            "From the admission of a turn to its end",
            ("dialect", "profile"),
            buckets=DURATIONS,
            registry=registry,
        )
        self._first_tokens = Histogram(
            "maxd_first_token_seconds",
            "From the admission of a turn to the first text for its client",
            ("dialect", "profile"),
            buckets=FIRST_TOKENS,
            registry=registry,
        )
        self._queue_waits = Histogram(
            "maxd_queue_seconds",
            "Wait for room, without that for a process that was being started",
            buckets=WAITS,
            registry=registry,
        )
        self._spawns = Counter(
            "maxd_worker_spawns", "Processes started", ("profile",), registry=registry
        )
        self._starts = Histogram(
            "maxd_worker_start_seconds",
            "From the start of a process to its first answer",
            buckets=STARTS,
            registry=registry,
        )
        self._kills = Counter("maxd_worker_kills", "Workers killed", ("reason",), registry=registry)
        self._deaths = Counter(
            "maxd_worker_deaths",
            "Workers that ended by themselves or could not start",
            ("code",),
            registry=registry,
        )
        self._stuck = Counter(
            "maxd_workers_stuck", "Workers whose processes could not be killed", registry=registry
        )
        self._tokens = Counter(
            "maxd_tokens", "Tokens of finished turns", ("model", "kind"), registry=registry
        )
        self._cost = Counter(
            "maxd_cost_usd",
            "Cost of finished turns by the CLI's own prices",
            ("model",),
            registry=registry,
        )

    def worker_started(self, worker: str, key: Key) -> None:
        self._spawns.labels(key.profile).inc()

    def worker_ready(self, worker: str, pid: int | None, seconds: float) -> None:
        self._starts.observe(seconds)

    def worker_gone(
        self, worker: str, reason: str | None, fault: Fault | None, *, stuck: bool
    ) -> None:
        if fault is not None and fault.blame != "worker":
            fault, reason = None, TURN_FAILED
        if fault is not None:
            self._deaths.labels(self._outcomes.of(fault.code or fault.blame)).inc()
        elif reason is not None:
            self._kills.labels(self._reasons.of(reason)).inc()
        if stuck:
            self._stuck.inc()

    def turn_ended(self, facts: TurnFacts) -> None:
        timings, usage = facts.timings, facts.usage
        outcome = self._outcomes.of(facts.outcome)
        # Names of keys are the operator's own; without keys there is one series.
        key = "" if facts.key is None else self._keys.of(facts.key)
        self._turns.labels(facts.dialect, facts.profile, outcome, key).inc()
        if timings.total is not None:
            self._durations.labels(facts.dialect, facts.profile).observe(timings.total)
        if timings.first_text is not None:
            self._first_tokens.labels(facts.dialect, facts.profile).observe(timings.first_text)
        if timings.queue is not None:
            self._queue_waits.observe(timings.queue)
        if usage is not None:
            # Only models that have answered are named: a client may ask for any id.
            model = self._models.of(facts.model)
            for kind, count in (
                ("input", usage.input_tokens),
                ("cache_creation", usage.cache_creation_tokens),
                ("cache_read", usage.cache_read_tokens),
                ("output", usage.output_tokens),
            ):
                self._tokens.labels(model, kind).inc(max(0, count))
            self._cost.labels(model).inc(max(0.0, facts.cost))

    def replied(self, reply: Replied) -> None:
        status = "none" if reply.status is None else str(reply.status)
        self._replies.labels(reply.route, status).inc()

    def watch(self, status: Callable[[], Status]) -> None:
        """Read `status` for the gauges whenever the metrics are asked for. Called once."""
        self._registry.register(_Gauges(status))

    def render(self) -> bytes:
        """All metrics in Prometheus' text format, of the type `CONTENT_TYPE`."""
        return generate_latest(self._registry)


class _Gauges(Collector):
    def __init__(self, status: Callable[[], Status]) -> None:
        self._status = status

    def describe(self) -> list[Metric]:
        # Asked for at registration, when there is no status yet.
        return []

    def collect(self) -> Iterator[Metric]:
        status = self._status()
        info = InfoMetricFamily("maxd_build", "Versions of the daemon and of the CLI")
        info.add_metric([], {"version": status.version, "cli": status.cli.version or ""})
        yield info
        yield _gauge("maxd_start_time_seconds", "Start, in epoch seconds", status.started_at)
        yield _gauge("maxd_ready", "Whether turns are accepted", float(status.state == "serving"))
        pool = status.pool
        workers = GaugeMetricFamily("maxd_workers", "Workers by state", labels=["state"])
        for state in ("starting", "leased", "parked", "idle", "ending", "stuck"):
            workers.add_metric([state], getattr(pool, state))
        workers.add_metric(["spare"], pool.spares)
        yield workers
        yield _gauge("maxd_workers_limit", "Most workers at once", pool.limit)
        memory = sum(worker.memory or 0 for worker in status.workers)
        yield _gauge("maxd_workers_memory_bytes", "Resident memory of all workers", memory)
        yield _gauge("maxd_turns_running", "Turns that have not ended", status.running)
        yield _gauge("maxd_queue_length", "Requests that wait for a worker", pool.queued)
        yield _gauge("maxd_queue_limit", "Most requests that may wait", pool.queue_limit)
        age = pool.queue_age or 0.0
        yield _gauge("maxd_queue_oldest_seconds", "How long the oldest of them has waited", age)
        yield from _limits(status)


def _limits(status: Status) -> Iterator[Metric]:
    used = GaugeMetricFamily(
        "maxd_limit_utilization_ratio", "Part used of an account's window", labels=["window"]
    )
    resets = GaugeMetricFamily(
        "maxd_limit_reset_time_seconds", "End of the window, in epoch seconds", labels=["window"]
    )
    rejected = GaugeMetricFamily(
        "maxd_limit_rejected", "Whether the service rejects requests", labels=["window"]
    )
    # What the service calls its windows is no more than a handful of words.
    for limit in (status.limits or ())[:20]:
        rejected.add_metric([limit.window], float(limit.status == "rejected"))
        if limit.utilization is not None:
            used.add_metric([limit.window], limit.utilization)
        if limit.resets_at is not None:
            resets.add_metric([limit.window], limit.resets_at)
    yield from (used, resets, rejected)


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(name, meaning, value=value)
