"""What holds of the scheduler whatever happens in whatever order, on a simulated pool."""

from typing import Literal

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from maxd.daemon.backoff import LONGEST_DELAY
from maxd.daemon.scheduler import Scheduler
from maxd.daemon.slots import Key, Limits
from maxd.workers.faults import BackendUnavailable, Fault, Overloaded, WorkerDied, WorkerStartFailed
from maxd.workers.states import State

KEYS = tuple(Key(profile, model) for profile in ("agent", "chat") for model in ("opus", "sonnet"))
QUEUE_SECONDS = 40.0
WARM_SECONDS = 100.0
START_SECONDS = 5.0

Stage = Literal["starting", "ready", "leased", "killed"]


class SimulatedPool:
    """Effects that check each order against what they know, and keep the workers' lives."""

    def __init__(self, max_workers: int) -> None:
        self._max_workers = max_workers
        self._count = 0
        self.now = 0.0
        self.closed = False
        self.scheduler: Scheduler | None = None
        self.stages: dict[str, Stage] = {}
        self.keys: dict[str, Key] = {}
        self.since: dict[str, float] = {}
        self.wanted: dict[str, Key] = {}
        self.leases: dict[str, str] = {}
        self.outcomes: dict[str, str] = {}
        # The earliest time of the next start after failures, kept in its weakest form.
        self.last_failure: float | None = None

    def spawn(self, key: Key) -> str:
        assert not self.closed
        assert self.last_failure is None or self.now >= self.last_failure + 0.5
        self._count += 1
        worker = f"w{self._count}"
        self.stages[worker] = "starting"
        self.keys[worker] = key
        self.since[worker] = self.now
        assert len(self.stages) <= self._max_workers
        return worker

    def grant(self, request: str, worker: str, *, continues: bool) -> None:
        assert not self.closed
        assert self.stages[worker] == "ready"
        assert self.keys[worker] == self.wanted[request]
        self.stages[worker] = "leased"
        self.leases[request] = worker
        self.end(request, "granted")

    def refuse(self, request: str, fault: Fault) -> None:
        if isinstance(fault, Overloaded):
            assert fault.retry_after is not None
        assert not isinstance(fault, WorkerDied)
        self.end(request, "refused")

    def kill(self, worker: str, reason: str) -> None:
        assert reason
        assert self.stages[worker] != "killed"
        self.stages[worker] = "killed"
        self.since[worker] = self.now

    def end(self, request: str, outcome: str) -> None:
        assert request in self.wanted
        assert request not in self.outcomes
        self.outcomes[request] = outcome

    def gone(self, worker: str) -> None:
        del self.stages[worker], self.since[worker]


class SchedulerMachine(RuleBasedStateMachine):
    requests = Bundle("requests")

    @initialize(
        max_workers=st.integers(1, 4),
        max_starting=st.integers(1, 3),
        spares=st.integers(0, 2),
        warm=st.lists(st.sampled_from(KEYS), max_size=2),
        queue_length=st.integers(0, 6),
    )
    def begin(
        self, max_workers: int, max_starting: int, spares: int, warm: list[Key], queue_length: int
    ) -> None:
        self.count = 0
        self.pool = SimulatedPool(max_workers)
        limits = Limits(
            max_workers=max_workers,
            max_starting=max_starting,
            spares=spares,
            warm=tuple(warm),
            warm_seconds=WARM_SECONDS,
            queue_length=queue_length,
            queue_seconds=QUEUE_SECONDS,
        )
        self.scheduler = Scheduler(limits, self.pool)
        self.scheduler.tick(0.0)

    # What clients do

    @rule(
        target=requests,
        key=st.sampled_from(KEYS),
        client=st.sampled_from("abc"),
        again=st.booleans(),
    )
    def admit(self, key: Key, client: str, again: bool) -> str:
        self.count += 1
        request = f"r{self.count}"
        self.pool.wanted[request] = key
        self.scheduler.admit(request, key, client, self.pool.now, again=again)
        return request

    @rule(request=requests)
    def leave(self, request: str) -> None:
        """The client's lease is closed: a withdrawal or a release, as the pool tells them."""
        if request in self.pool.outcomes:
            self.finish(request)
        else:
            self.pool.end(request, "withdrawn")
            self.scheduler.withdraw(request, self.pool.now)

    @rule(request=requests)
    def leave_in_the_moment_of_the_grant(self, request: str) -> None:
        if self.pool.outcomes.get(request) != "granted":
            return
        worker = self.pool.leases[request]
        self.scheduler.withdraw(request, self.pool.now)
        assert self.pool.stages.get(worker) in ("killed", None)

    def finish(self, request: str) -> None:
        if (worker := self.pool.leases.get(request)) is not None:
            self.scheduler.release(worker, "its turn is over", self.pool.now)
            assert self.pool.stages.get(worker) in ("killed", None)

    @rule(key=st.sampled_from(KEYS))
    def forget(self, key: Key) -> None:
        self.scheduler.forget(key, self.pool.now)

    # What workers do

    def workers(self, *stages: Stage) -> list[str]:
        return [worker for worker, stage in self.pool.stages.items() if stage in stages]

    @rule(choice=st.integers(0, 9))
    def become_ready(self, choice: int) -> None:
        if starting := self.workers("starting"):
            self.make_ready(starting[choice % len(starting)])

    def make_ready(self, worker: str) -> None:
        self.pool.stages[worker] = "ready"
        self.pool.last_failure = None
        self.scheduler.worker_ready(worker, self.pool.now)

    @rule(choice=st.integers(0, 9))
    def ready_too_late(self, choice: int) -> None:
        """Its word and the kill have crossed."""
        if killed := self.workers("killed"):
            self.scheduler.worker_ready(killed[choice % len(killed)], self.pool.now)

    @rule(choice=st.integers(0, 9))
    def die(self, choice: int) -> None:
        if living := self.workers("starting", "ready", "leased"):
            self.let_die(living[choice % len(living)])

    def let_die(self, worker: str) -> None:
        stage = self.pool.stages[worker]
        self.pool.gone(worker)
        fault = WorkerStartFailed("no start") if stage == "starting" else WorkerDied("died")
        if stage != "leased":
            self.pool.last_failure = self.pool.now
        self.scheduler.worker_gone(worker, self.pool.now, fault=fault)

    @rule(choice=st.integers(0, 9), stuck=st.booleans())
    def end_killed(self, choice: int, stuck: bool) -> None:
        if killed := self.workers("killed"):
            worker = killed[choice % len(killed)]
            self.pool.gone(worker)
            self.scheduler.worker_gone(worker, self.pool.now, stuck=stuck)

    # What the daemon does

    @rule()
    def close(self) -> None:
        self.pool.closed = True
        self.scheduler.close(BackendUnavailable("logged out"), self.pool.now)
        assert not self.workers("starting", "ready")

    @rule()
    def open(self) -> None:
        self.pool.closed = False
        self.pool.last_failure = None
        self.scheduler.open(self.pool.now)

    @rule(seconds=st.sampled_from((0.0, 0.1, 1.0, 7.3, 30.0, 120.0)))
    def wait(self, seconds: float) -> None:
        """Time passes as in Pool.run: at each `wake_at` there is a tick."""
        end = self.pool.now + seconds
        for _ in range(1000):
            wake = self.scheduler.wake_at(self.pool.now)
            if wake is None or wake > end:
                break
            self.pool.now = wake
            self.scheduler.tick(wake)
        else:
            raise AssertionError("ticks without end")
        self.pool.now = end
        self.scheduler.tick(end)

    # What always holds

    @invariant()
    def nothing_is_due(self) -> None:
        self.scheduler.tick(self.pool.now)
        wake = self.scheduler.wake_at(self.pool.now)
        assert wake is None or wake > self.pool.now

    @invariant()
    def states_agree(self) -> None:
        names: dict[Stage, State] = {
            "starting": State.STARTING,
            "ready": State.SPARE,
            "leased": State.LEASED,
            "killed": State.ENDING,
        }
        for worker, stage in self.pool.stages.items():
            assert self.scheduler.state(worker) is names[stage]
        waiting = len(self.pool.wanted) - len(self.pool.outcomes)
        assert self.scheduler.queued == waiting

    @invariant()
    def who_can_be_served_is_served(self) -> None:
        waiting = {
            key for request, key in self.pool.wanted.items() if request not in self.pool.outcomes
        }
        assert not waiting & {self.pool.keys[worker] for worker in self.workers("ready")}
        assert not (waiting and self.pool.closed)

    def teardown(self) -> None:
        """In a pool whose workers start, serve and end, everybody is served, and soon."""
        if not hasattr(self, "scheduler"):
            return
        self.open()
        for _ in range(200):
            for worker in self.workers("killed"):
                self.pool.gone(worker)
                self.scheduler.worker_gone(worker, self.pool.now)
            for worker in self.workers("starting"):
                # May have been killed for another that has just become ready.
                if self.pool.stages[worker] == "starting":
                    self.make_ready(worker)
            for request in list(self.pool.leases):
                self.finish(request)
                del self.pool.leases[request]
            if not self.scheduler.queued and not self.workers("killed", "leased"):
                break
        assert self.scheduler.queued == 0
        assert len(self.pool.outcomes) == len(self.pool.wanted)
        assert not self.workers("leased")

        # And in one that never starts anything again, nobody waits for ever.
        self.pool.wanted["last"] = KEYS[0]
        self.scheduler.admit("last", KEYS[0], "a", self.pool.now)
        for _ in range(int(QUEUE_SECONDS + LONGEST_DELAY)):
            for worker in self.workers("starting", "ready"):
                self.let_die(worker)
            self.wait(1.0)
        assert "last" in self.pool.outcomes
        assert self.scheduler.queued == 0


SchedulerMachine.TestCase.settings = settings(
    max_examples=100,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestScheduler = SchedulerMachine.TestCase
