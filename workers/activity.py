"""When a turn has to end: it says nothing, and its processes make no progress. Pure code.

watch = TurnWatch(silence_seconds=600, turn_seconds=math.inf, began=boot_time, now=now)
watch.resume(now)                      its output is being waited for
watch.heard(data, now)                 this has come; `resume` again when more is waited for
watch.due(now)                         when to look again: sleep until then, then
watch.woke(now)                        → whether to sample the tree
watch.judge(sample, cost, now)         → the fault that ends the turn, or None: look again
watch.end()                            the turn is over

What the CLI does by itself while it waits must not look like progress. Measured for 5 minutes on
two idle processors, with a Bash tool that hung: 2.1.197 used 17 ms of CPU a second, read 370 bytes
and wrote 35; 2.1.330 used 4 ms, read 6 and wrote 90. While it waited for the service: 3 ms and
2 ms. No 5 seconds had more than 130 ms. The figures below let three times the worst of that pass
unseen, and a garbage collection too.
"""

import math
from collections.abc import Mapping
from typing import TypeAlias

import msgspec
from msgspec import Struct

from maxd.workers.faults import TurnTimedOut

SAMPLE_SECONDS = 1.0
"""How often a silent turn's tree is looked at. What has stopped is found out this much late."""
MOST_SAMPLE_SECONDS = 10.0
"""…and at most, where a look is dear: the tree of a large build may have thousands of threads."""
COST_SHARE = 0.01
"""The part of one processor that looking may take."""
FROZEN_SECONDS = 5.0
"""Woken this much too late, the machine or the daemon has stood still, and so, perhaps, has the
turn: the wait begins anew."""

# The lines in which the CLI says only that time has passed (2.1.330 every 30 s), and the longest
# that is looked at: they take 350 bytes, and a line that is longer says something.
IDLE_TYPES = frozenset(("tool_progress", "keep_alive"))
IDLE_LINE = 4096

ProcessKey: TypeAlias = tuple[int, float]
"""A process id and the time at which it began: an id alone is given again."""


class Used(Struct, frozen=True):
    """What a process and its children that it has waited for have used since they began: seconds
    of CPU, and bytes read and written (0 where the system does not tell)."""

    cpu: float = 0.0
    read: int = 0
    written: int = 0


Sample: TypeAlias = Mapping[ProcessKey, Used]
"""All processes of a tree at one moment."""


class _Allowance(Struct, frozen=True):
    """Use that is no progress: so much a second. Beyond it, `enough` is one."""

    per_second: float
    enough: float


# What was there before the turn: the CLI, and the servers and browsers that it keeps. Each has its
# timers. What they work for the turn and say nothing of takes more than that.
RESIDENT = {
    "cpu": _Allowance(0.06, enough=1.0),
    "read": _Allowance(2_000, enough=1_000_000),
    "written": _Allowance(2_000, enough=1_000_000),
}
# What the turn has started. Blocked, it uses nothing, an idle Node 2 ms a second. A shell that asks
# for a lock and sleeps for a second takes 3 ms and reads 16 kB. A shell that asks ten times a
# second looks like work: a silent upload reads no more, and to kill work is the worse mistake.
TOOLS = {
    "cpu": _Allowance(0.01, enough=0.05),
    "read": _Allowance(30_000, enough=100_000),
    "written": _Allowance(1_000, enough=20_000),
}


class _Accounts:
    """What processes of one kind have used beyond their allowance, which leaks away with time."""

    def __init__(self, allowances: Mapping[str, _Allowance]) -> None:
        self._allowances = allowances
        self._levels = dict.fromkeys(allowances, 0.0)

    def add(self, used: Mapping[str, float], seconds: float, processes: int) -> bool:
        """Whether this is progress; each of the `processes` has the allowance."""
        progress = False
        for name, allowance in self._allowances.items():
            leaked = allowance.per_second * seconds * processes
            level = max(0.0, self._levels[name] + used[name] - leaked)
            if level >= allowance.enough:
                level, progress = 0.0, True
            self._levels[name] = level
        return progress


class TurnWatch:
    """Watches one turn. `silence_seconds` and `turn_seconds` are its limits, `began` is when it
    began on the clock of the samples' keys; `now` everywhere is in seconds of a monotonic one."""

    def __init__(
        self,
        *,
        silence_seconds: float = math.inf,
        turn_seconds: float = math.inf,
        began: float = 0.0,
        now: float = 0.0,
    ) -> None:
        self._limit = silence_seconds
        self._began = began
        self._longest = turn_seconds
        self._ends = now + turn_seconds
        # Quick enough for short limits too.
        self._base = self._interval = min(SAMPLE_SECONDS, silence_seconds / 20)
        self._alive = now
        self._looked = now
        self._paused_at: float | None = None
        self._before: tuple[Sample, float] | None = None
        self.over = False
        self._residents = _Accounts(RESIDENT)
        self._tools = _Accounts(TOOLS)

    def __repr__(self) -> str:
        state = "over" if self.over else "running" if self._paused_at is None else "not listened to"
        return f"<TurnWatch {state}, a limit of {self._limit:g} s>"

    def resume(self, now: float) -> None:
        """The turn's output is waited for. Time in which nobody listened does not count."""
        if self._paused_at is not None:
            self._alive += now - self._paused_at
            self._paused_at = None

    def heard(self, data: bytes, now: float) -> None:
        """The process has said `data`."""
        if not only_time_passed(data):
            self._alive = self._looked = now
            self._before = None
        self._paused_at = now

    def end(self) -> None:
        """The turn is over."""
        self.over = True

    def due(self, now: float) -> float:
        """When to look again; not later than the moment in which the limit may be reached."""
        if self._paused_at is not None:
            return min(now + self._base, self._ends)
        return min(self._looked + self._interval, self._alive + self._limit, self._ends)

    def woke(self, now: float) -> bool:
        """Whether it is time to sample; to be asked at each wakening at `due`."""
        due = self.due(now)
        if now - due > FROZEN_SECONDS:
            self._ends += now - due
            self._alive = self._looked = now
            self._before = None
            return False
        return now >= due and (self._paused_at is None or now >= self._ends)

    def judge(self, sample: Sample | None, cost: float, now: float) -> TurnTimedOut | None:
        """The fault with which the turn has to end, if it has to. `sample` is what its tree has
        used now, None where that is not known; `cost` is the CPU time of the look in seconds."""
        self._looked = now
        self._interval = min(
            max(self._base, cost / COST_SHARE), MOST_SAMPLE_SECONDS * self._base / SAMPLE_SECONDS
        )
        if sample is not None:
            if self._before is not None and self._progress(*self._before, sample, now):
                self._alive = now
            self._before = sample, now
        if now >= self._ends:
            return TurnTimedOut(f"the turn was ended: it took more than {in_words(self._longest)}")
        if now >= self._alive + self._limit and self._paused_at is None:
            return TurnTimedOut(
                f"the turn was ended: for {in_words(self._limit)} the claude CLI said nothing and "
                "its processes made no progress"
            )
        return None

    def _progress(self, before: Sample, then: float, after: Sample, now: float) -> bool:
        residents = 0
        by_residents = dict.fromkeys(RESIDENT, 0.0)
        by_tools = dict.fromkeys(TOOLS, 0.0)
        for key, used in after.items():
            resident = key[1] < self._began
            residents += resident
            total = by_residents if resident else by_tools
            earlier = before.get(key, Used())
            # Never less: the system's rounding may take a tick back.
            total["cpu"] += max(0.0, used.cpu - earlier.cpu)
            total["read"] += max(0, used.read - earlier.read)
            total["written"] += max(0, used.written - earlier.written)
        seconds = now - then
        # Both, because each has to keep its accounts.
        resident_progress = self._residents.add(by_residents, seconds, residents)
        return self._tools.add(by_tools, seconds, 1) or resident_progress


class _Typed(Struct):
    type: str = ""


_typed = msgspec.json.Decoder(_Typed)


def only_time_passed(data: bytes) -> bool:
    """Whether `data`, from the CLI's output, only says that time has passed.

    No sign of life of a tool: 2.1.330 prints such lines while the tool hangs. A line that is
    cut in two says more than it does; that happens once in a long while, and costs one wait.
    """
    if len(data) > IDLE_LINE:
        return False
    try:
        return all(
            _typed.decode(line).type in IDLE_TYPES for line in data.splitlines() if line.strip()
        )
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False


def in_words(seconds: float) -> str:
    """A limit as a person says it: `10 minutes`, `1.5 minutes`, `3 seconds`."""
    number, unit = (seconds, "second") if seconds < 60 else (seconds / 60, "minute")
    rounded = f"{number:.3g}" if not math.isclose(number, round(number)) else f"{number:.0f}"
    return f"{rounded} {unit}{'' if rounded == '1' else 's'}"
