"""The metrics, read back with the parser that belongs to their format."""

from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from maxd.daemon.labels import OTHER, Labels
from maxd.daemon.metrics import MOST_MODELS, Metrics
from maxd.daemon.observer import Observers
from maxd.daemon.slots import Key
from maxd.workers.faults import UpstreamFault, WorkerDied
from tests.daemon.telling import NOW, replied, status, turn

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(metrics: Metrics) -> Samples:
    families = text_string_to_metric_families(metrics.render().decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float:
    return found[name, tuple(sorted(labels.items()))]


def test_turns_are_counted_and_measured() -> None:
    metrics = Metrics()
    metrics.turn_ended(turn())
    metrics.turn_ended(turn(outcome="overloaded", usage=None, key="laptop"))
    found = samples(metrics)
    same = {"dialect": "chat", "profile": "chat"}
    assert value(found, "maxd_turns_total", **same, outcome="finished", key="") == 1
    assert value(found, "maxd_turns_total", **same, outcome="overloaded", key="laptop") == 1
    assert value(found, "maxd_turn_seconds_sum", **same) == 4.0
    assert value(found, "maxd_first_token_seconds_count", **same) == 2
    assert value(found, "maxd_queue_seconds_sum") == 1.0
    assert value(found, "maxd_tokens_total", model="sonnet", kind="cache_read") == 20
    assert value(found, "maxd_cost_usd_total", model="sonnet") == 0.25


def test_workers_are_counted_by_why_they_end() -> None:
    metrics = Metrics()
    told = Observers(metrics)
    told.worker_started("w1", Key("chat", "sonnet"))
    told.worker_ready("w1", 4711, 0.6)
    told.worker_gone("w1", "its turn is over", None, stuck=True)
    told.worker_gone("w2", None, WorkerDied("gone"), stuck=False)
    told.worker_gone("w3", None, UpstreamFault("no"), stuck=False)
    told.turn_ended(turn())
    told.cli_changed(None)
    found = samples(metrics)
    assert value(found, "maxd_worker_spawns_total", profile="chat") == 1
    assert value(found, "maxd_worker_start_seconds_sum") == 0.6
    assert value(found, "maxd_worker_kills_total", reason="its turn is over") == 1
    assert value(found, "maxd_worker_kills_total", reason="its turn failed") == 1
    assert value(found, "maxd_worker_deaths_total", code="worker_died") == 1
    assert value(found, "maxd_workers_stuck_total") == 1


def test_requests_are_counted_by_route_and_status() -> None:
    metrics = Metrics()
    Observers(metrics).replied(replied())
    found = samples(metrics)
    assert value(found, "maxd_http_requests_total", route="/chat/completions", status="400") == 1


def test_the_state_is_read_when_it_is_asked_for() -> None:
    metrics = Metrics()
    metrics.watch(status)
    found = samples(metrics)
    assert value(found, "maxd_ready") == 1
    assert value(found, "maxd_workers", state="leased") == 1
    assert value(found, "maxd_workers", state="spare") == 1
    assert value(found, "maxd_workers_limit") == 4
    assert value(found, "maxd_queue_length") == 2
    assert value(found, "maxd_queue_oldest_seconds") == 1.5
    assert value(found, "maxd_limit_utilization_ratio", window="five_hour") == 0.42
    assert value(found, "maxd_limit_reset_time_seconds", window="five_hour") == NOW + 7500
    assert value(found, "maxd_limit_rejected", window="seven_day") == 1
    assert value(found, "maxd_build_info", version="1.2.3", cli="2.1.330") == 1


def test_clients_cannot_invent_labels_without_end() -> None:
    metrics = Metrics()
    for number in range(10 * MOST_MODELS):
        metrics.turn_ended(turn(model=f"m{number}", outcome=f"o{number}", key=f"k{number}"))
    models = {labels for name, labels in samples(metrics) if name == "maxd_cost_usd_total"}
    assert len(models) == MOST_MODELS + 1
    assert len([name for name, _ in samples(metrics) if name == "maxd_turns_total"]) <= 51


def test_nothing_is_put_into_the_library_s_own_registry() -> None:
    before = {metric.name for metric in REGISTRY.collect()}
    Metrics().turn_ended(turn())
    assert {metric.name for metric in REGISTRY.collect()} == before


def test_labels_keep_the_first_names_apart() -> None:
    labels = Labels(2)
    assert [labels.of(name) for name in "abcab"] == ["a", "b", OTHER, "a", "b"]
