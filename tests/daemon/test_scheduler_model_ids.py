"""Many model ids: none is kept warm for ever, and none starves another."""

from maxd.daemon.slots import Key
from maxd.workers.faults import BackendUnavailable
from maxd.workers.states import State
from tests.daemon.recorded_effects import AGENT, CHAT, OPUS, make, warmed


def test_forgetting_a_model_leaves_no_spares_of_it() -> None:
    scheduler, record = make(warm=())
    scheduler.admit("r1", OPUS, "c", 0.0)
    scheduler.worker_ready("w1", 1.0)
    scheduler.release("w1", "its turn was cut short", 2.0)
    scheduler.forget(OPUS, 2.0)
    scheduler.worker_gone("w1", 3.0)
    scheduler.worker_ready("w2", 3.0)
    assert record.take()[-1] == ("kill", "w2")
    scheduler.worker_gone("w2", 4.0)
    assert record.take() == []
    assert scheduler.counts() == dict.fromkeys(State, 0)


def test_a_warm_model_is_not_forgotten() -> None:
    scheduler, record = warmed()
    scheduler.forget(AGENT, 1.0)
    assert record.take() == []


def test_many_model_ids_in_a_row_end_with_the_warm_spares_only() -> None:
    scheduler, record = make(max_workers=4)
    scheduler.tick(0.0)
    now = 0.0

    def obey() -> None:
        for told in iter(record.take, []):
            for action, name, *_ in told:
                if action == "spawn":
                    scheduler.worker_ready(name, now)
                elif action == "grant":
                    leased.append(_[0])
                elif action == "kill":
                    scheduler.worker_gone(name, now)

    for number in range(200):
        now += 1.0
        leased: list[str] = []
        scheduler.admit(f"r{number}", Key("agent", f"claude-{number}"), "c", now)
        obey()
        assert len(leased) == 1
        scheduler.release(leased[0], "its turn is over", now)
        obey()
        assert sum(scheduler.counts().values()) <= 4
    scheduler.tick(wake := now + 600.0)
    obey()
    scheduler.tick(wake)
    obey()
    assert scheduler.counts() == dict.fromkeys(State, 0) | {State.SPARE: 1}
    assert scheduler.wake_at(wake) is None


def test_made_up_model_ids_take_no_memory() -> None:
    scheduler, _ = make(max_workers=4, queue_length=10)
    scheduler.close(BackendUnavailable("the claude CLI is not logged in"), 0.0)
    for number in range(1000):
        scheduler.admit(f"r{number}", Key("agent", f"claude-{number}"), "c", 1.0)
    scheduler.open(1.0)
    for number in range(4):
        scheduler.admit(f"s{number}", Key("agent", f"claude-{number}"), "c", 2.0)
        scheduler.withdraw(f"s{number}", 2.0)
    assert len(scheduler._recent.used) <= 4
    assert len(scheduler._needed) == 0


def test_one_worker_serves_two_models_in_turn() -> None:
    scheduler, record = make(max_workers=1, warm=(AGENT,))
    scheduler.tick(0.0)
    for number in range(20):
        scheduler.admit(f"r{number}", (AGENT, CHAT)[number % 2], f"c{number % 3}", 0.0)
    granted = []
    while told := record.take():
        for action, name, *rest in told:
            if action == "spawn":
                scheduler.worker_ready(name, 1.0)
            elif action == "grant":
                granted.append(name)
                scheduler.release(rest[0], "its turn is over", 1.0)
            elif action == "kill":
                scheduler.worker_gone(name, 1.0)
    assert len(granted) == 20
