"""What holds of the scheduler whatever happens in whatever order, on a simulated pool."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from maxd.daemon.backoff import LONGEST_DELAY
from maxd.daemon.scheduler import Scheduler
from maxd.daemon.slots import Key, Limits
from maxd.workers.faults import BackendUnavailable, WorkerDied, WorkerStartFailed
from maxd.workers.states import State
from tests.daemon.simulated_pool import IDLE_SECONDS, SimulatedPool, Stage

KEYS = tuple(Key(profile, model) for profile in ("agent", "chat") for model in ("opus", "sonnet"))
QUEUE_SECONDS = 40.0
WARM_SECONDS = 100.0


def head_of(key: Key, number: int) -> bytes:
    """Heads cover the key; workers of one key may hold equal conversations."""
    return f"{key} {number}".encode()


class SchedulerMachine(RuleBasedStateMachine):
    requests = Bundle("requests")

    @initialize(
        max_workers=st.integers(1, 5),
        max_starting=st.integers(1, 3),
        spares=st.integers(0, 2),
        warm=st.lists(st.sampled_from(KEYS), max_size=2),
        queue_length=st.integers(0, 6),
    )
    def begin(
        self, max_workers: int, max_starting: int, spares: int, warm: list[Key], queue_length: int
    ) -> None:
        self.count = 0
        self.pool = SimulatedPool(max_workers, max_starting)
        limits = Limits(
            max_workers=max_workers,
            max_starting=max_starting,
            spares=spares,
            warm=tuple(warm),
            warm_seconds=WARM_SECONDS,
            queue_length=queue_length,
            queue_seconds=QUEUE_SECONDS,
            idle_seconds=IDLE_SECONDS,
        )
        self.scheduler = self.pool.scheduler = Scheduler(limits, self.pool)
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

    @rule(
        target=requests,
        key=st.sampled_from(KEYS),
        choice=st.integers(0, 4),
        whole=st.booleans(),
    )
    def go_on(self, key: Key, choice: int, whole: bool) -> str:
        """The next turn of a conversation, perhaps its new messages alone; no worker may hold it,
        or more than one."""
        head = head_of(key, choice)
        if choice < len(self.pool.heads):
            worker = list(self.pool.heads)[choice]
            key, head = self.pool.keys[worker], self.pool.heads[worker]
        return self.ask_to_go_on(key, head, whole)

    @precondition(lambda self: self.pool.heads)
    @rule(which=st.integers(0, 4), choice=st.integers(0, 2))
    def chat(self, which: int, choice: int) -> None:
        """A whole turn of a conversation that a worker holds, at once."""
        holders = list(self.pool.heads)
        worker = holders[which % len(holders)]
        request = self.ask_to_go_on(self.pool.keys[worker], self.pool.heads[worker], True)
        self.keep(self.pool.leases.pop(request), choice)

    def ask_to_go_on(self, key: Key, head: bytes, whole: bool) -> str:
        self.count += 1
        request = f"r{self.count}"
        self.pool.wanted[request] = key
        self.pool.wanted_heads[request] = head
        held = head in self.pool.heads.values()
        self.scheduler.admit(request, key, "a", self.pool.now, head=head, whole=whole)
        if held:
            assert self.pool.outcomes[request] == "granted", "at once, whoever else waits"
            assert self.pool.stages[self.pool.leases[request]] == "leased"
        elif not whole:
            assert self.pool.outcomes[request] == "refused"
        return request

    @precondition(lambda self: self.workers("starting", "killed"))
    @rule()
    def let_all_start_and_end(self) -> None:
        for worker in self.workers("killed"):
            self.pool.gone(worker)
            self.scheduler.worker_gone(worker, self.pool.now)
        for worker in self.workers("starting"):
            # May have been killed for another that has just become ready.
            if self.pool.stages[worker] == "starting":
                self.make_ready(worker)

    @precondition(lambda self: self.workers("leased"))
    @rule(which=st.integers(0, 9), choice=st.integers(0, 2))
    def finish_a_turn(self, which: int, choice: int) -> None:
        """The turn has ended well: its worker waits for the next, or its room is needed."""
        leased = {w: r for r, w in self.pool.leases.items() if w in self.workers("leased")}
        if leased:
            worker = list(leased)[which % len(leased)]
            del self.pool.leases[leased[worker]]
            self.keep(worker, choice)

    def keep(self, worker: str, choice: int) -> None:
        head = head_of(self.pool.keys[worker], choice)
        if not self.pool.closed:
            self.pool.stages[worker] = "idle"
            self.pool.heads[worker] = head
            self.pool.since[worker] = self.pool.now
        self.scheduler.release(worker, "its turn is over", self.pool.now, head=head)
        assert self.pool.stages.get(worker) in ("idle", "killed")
        assert (self.pool.stages[worker] == "idle") == (worker in self.pool.heads)

    @precondition(lambda self: self.pool.heads)
    @rule(key=st.sampled_from(KEYS), choice=st.integers(0, 2))
    def end_conversation(self, key: Key, choice: int) -> None:
        head = head_of(key, choice)
        held = list(self.pool.heads.values()).count(head)
        self.pool.ending = head
        self.scheduler.end(head, self.pool.now)
        self.pool.ending = None
        assert list(self.pool.heads.values()).count(head) <= max(0, held - 1)

    @rule(request=requests)
    def leave(self, request: str) -> None:
        """The client's lease is closed: a withdrawal or a release, as the pool tells them."""
        if request in self.pool.outcomes:
            self.finish(request)
        else:
            self.pool.end(request, "withdrawn")
            self.scheduler.withdraw(request, self.pool.now)

    @precondition(lambda self: self.pool.leases)
    @rule(request=requests)
    def leave_in_the_moment_of_the_grant(self, request: str) -> None:
        if self.pool.outcomes.get(request) != "granted":
            return
        if (worker := self.pool.leases.pop(request, None)) is None:
            return
        self.scheduler.withdraw(request, self.pool.now)
        assert self.pool.stages.get(worker) in ("killed", None)

    def finish(self, request: str) -> None:
        if (worker := self.pool.leases.pop(request, None)) is not None:
            self.scheduler.release(worker, "its turn is over", self.pool.now)
            assert self.pool.stages.get(worker) in ("killed", None)

    @precondition(lambda self: self.workers("ready"))
    @rule(key=st.sampled_from(KEYS))
    def forget(self, key: Key) -> None:
        self.scheduler.forget(key, self.pool.now)

    # What workers do

    def workers(self, *stages: Stage) -> list[str]:
        return [worker for worker, stage in self.pool.stages.items() if stage in stages]

    @precondition(lambda self: self.workers("starting"))
    @rule(choice=st.integers(0, 9))
    def become_ready(self, choice: int) -> None:
        if starting := self.workers("starting"):
            self.make_ready(starting[choice % len(starting)])

    def make_ready(self, worker: str) -> None:
        self.pool.stages[worker] = "ready"
        self.pool.last_failure = None
        self.scheduler.worker_ready(worker, self.pool.now)

    @precondition(lambda self: self.workers("killed"))
    @rule(choice=st.integers(0, 9))
    def ready_too_late(self, choice: int) -> None:
        """Its word and the kill have crossed."""
        if killed := self.workers("killed"):
            self.scheduler.worker_ready(killed[choice % len(killed)], self.pool.now)

    @precondition(lambda self: self.workers("starting", "ready", "leased", "idle"))
    @rule(choice=st.integers(0, 9))
    def die(self, choice: int) -> None:
        if living := self.workers("starting", "ready", "leased", "idle"):
            self.let_die(living[choice % len(living)])

    def let_die(self, worker: str) -> None:
        stage = self.pool.stages[worker]
        self.pool.gone(worker)
        fault = WorkerStartFailed("no start") if stage == "starting" else WorkerDied("died")
        self.pool.heads.pop(worker, None)
        if stage not in ("leased", "idle"):
            self.pool.last_failure = self.pool.now
        was = self.scheduler.fault
        self.scheduler.worker_gone(worker, self.pool.now, fault=fault)
        if stage in ("leased", "idle"):
            assert self.scheduler.fault is was, "its death says nothing about starts"

    @precondition(lambda self: self.workers("killed"))
    @rule(choice=st.integers(0, 9), stuck=st.booleans())
    def end_killed(self, choice: int, stuck: bool) -> None:
        if killed := self.workers("killed"):
            worker = killed[choice % len(killed)]
            self.pool.gone(worker)
            self.scheduler.worker_gone(worker, self.pool.now, stuck=stuck)

    # What the daemon does

    @precondition(lambda self: len(set(self.pool.stages.values())) > 2)
    @rule()
    def close(self) -> None:
        self.pool.closed = True
        self.scheduler.close(BackendUnavailable("logged out"), self.pool.now)
        assert not self.workers("starting", "ready", "idle")

    @precondition(lambda self: self.pool.closed)
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
            "idle": State.IDLE,
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

    @invariant()
    def leases_are_exclusive(self) -> None:
        held = [w for w in self.pool.leases.values() if self.pool.stages.get(w) == "leased"]
        assert sorted(held) == sorted(set(held)) == sorted(self.workers("leased"))

    @invariant()
    def idle_workers_wait_for_their_own_conversation_and_not_for_ever(self) -> None:
        assert sorted(self.pool.heads) == sorted(self.workers("idle"))
        for key in KEYS:
            for choice in range(3):
                head = head_of(key, choice)
                assert (self.scheduler.slots.holder(head) is not None) == (
                    head in self.pool.heads.values()
                )
        for worker in self.workers("idle"):
            assert self.pool.now < self.pool.since[worker] + IDLE_SECONDS

    def teardown(self) -> None:
        """In a pool whose workers start, serve and end, everybody is served, and soon."""
        if not hasattr(self, "scheduler"):
            return
        self.open()
        for _ in range(200):
            self.let_all_start_and_end()
            for number, request in enumerate(list(self.pool.leases)):
                # Every other one stays idle, so that they come to fill the pool.
                worker = self.pool.leases[request]
                if number % 2 and self.pool.stages.get(worker) == "leased":
                    self.keep(worker, 0)
                    del self.pool.leases[request]
                else:
                    self.finish(request)
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
