"""The operator's picture of the daemon: its form, and how it is put together from its parts.

It holds no text of a conversation, no key and no token. The words are those of the log.
"""

from collections.abc import Iterable, Mapping
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from maxd.daemon.chronicle import Happened, Member, Seen, Totals
from maxd.daemon.history import Point
from maxd.daemon.settings import Config
from maxd.daemon.slots import Slot
from maxd.daemon.turn_facts import RunningTurn
from maxd.workers.faults import Fault
from maxd.workers.policy import Count
from maxd.workers.states import State

DaemonState: TypeAlias = Literal["serving", "unavailable", "stopping"]

SHOWN_SETTINGS: Final = (
    "server.host",
    "server.port",
    "server.max_connections",
    "server.drain_seconds",
    "cli.path",
    "pool.max_workers",
    "pool.memory_fraction",
    "pool.spares",
    "pool.warm",
    "pool.warm_minutes",
    "pool.freeze_idle",
    "pool.reuse",
    "pool.queue_length",
    "pool.queue_seconds",
    "conversations.keep_days",
    "conversations.idle_minutes",
    "profiles.directory",
    "log.level",
)
"""By name, so that no setting is shown by accident: some hold secrets."""


class ProbeStatus(Struct, frozen=True, kw_only=True):
    """Whether something was shown of this version of the CLI. None: not yet. `reason`: why not.
    `switches_off` is what is not tried where it is not, in words."""

    name: str
    passed: bool | None
    reason: str | None = None
    switches_off: str = ""


class ReloadStatus(Struct, frozen=True, kw_only=True):
    """What came of the last time the configuration was read again, `at` in epoch seconds; None:
    never. With `problems` the one before stayed in force. `needs_restart` names the settings that
    are configured otherwise than they are in force."""

    at: float | None = None
    problems: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()


class CliStatus(Struct, frozen=True, kw_only=True):
    """The CLI that workers are started with. `login` is `logged_in`, `logged_out` or `unknown`;
    `method` is how, in the CLI's word. `expires_at` in epoch seconds. None: not known (yet)."""

    path: str | None = None
    version: str | None = None
    login: str | None = None
    method: str | None = None
    expires_at: float | None = None
    problem: str | None = None
    probes: tuple[ProbeStatus, ...] = ()


class LimitStatus(Struct, frozen=True, kw_only=True):
    """One usage window of the account. `utilization` is the part used, 0 to 1; `resets_at` is in
    epoch seconds. None where the service has not said."""

    window: str
    status: str
    utilization: float | None = None
    resets_at: float | None = None


class NotificationStatus(Struct, frozen=True, kw_only=True):
    """The operator's notifications. Of a channel no more than its kind is told."""

    channels: tuple[str, ...] = ()
    sent: int = 0
    failed: int = 0
    last_at: float | None = None
    last_problem: str | None = None


class MostEver(Struct, frozen=True, kw_only=True):
    """The most there have been at once since the start."""

    workers: int = 0
    turns: int = 0
    queued: int = 0


class PoolStatus(Struct, frozen=True, kw_only=True):
    """`size` are all workers that take up room, of at most `limit`. `queue_age` is how long the
    request that waits longest has waited, in seconds; None when none does."""

    size: int
    limit: int
    spares: int
    leased: int
    parked: int
    idle: int
    starting: int
    ending: int
    stuck: int
    queued: int
    queue_limit: int
    queue_age: float | None
    most: MostEver


class Used(Struct, frozen=True, kw_only=True):
    """What a worker's process takes: `cpu` in percent of one processor since the last look, None
    at the first; `memory` is resident, in bytes."""

    cpu: float | None
    memory: int


class WorkerStatus(Struct, frozen=True, kw_only=True):
    """One worker. `turns` counts those it has served, `turn_age` is that of the running one and
    `last_activity` the time since it has last told anything or changed its state, in seconds.
    `conversation` is that of its running turn, or of the last one."""

    id: str
    pid: int | None
    state: str
    profile: str
    model: str
    conversation: str | None
    request: str | None
    turn_age: float | None
    last_activity: float | None
    cpu: float | None
    memory: int | None
    turns: int


class Status(Struct, frozen=True, kw_only=True):
    """All of it. Times of day are epoch seconds, ages and durations seconds. `limits` and
    `notifications` are None where nothing is known of them."""

    version: str
    pid: int
    state: DaemonState
    problem: str | None
    now: float
    started_at: float
    uptime: float
    cli: CliStatus
    config: dict[str, object]
    reload: ReloadStatus = ReloadStatus()
    limits: tuple[LimitStatus, ...] | None
    notifications: NotificationStatus | None
    pool: PoolStatus
    running: int
    conversations: int
    unsaved: dict[str, str] = {}
    """What cannot be saved at the moment, with the reason: `conversations`, `replies`."""
    workers: tuple[WorkerStatus, ...]
    decisions: dict[str, Count]
    """How often the CLI asked for each tool, and what the profiles' rules answered."""
    totals: Totals
    errors: tuple[Seen, ...]
    events: tuple[Happened, ...]
    history: tuple[Point, ...]


def daemon_state(fault: Fault | None, *, stopping: bool) -> DaemonState:
    """What the daemon is doing: `fault` is why it refuses requests at the moment."""
    if stopping:
        return "stopping"
    return "serving" if fault is None else "unavailable"


def shown_settings(config: Config) -> dict[str, object]:
    """The settings in force that may be shown, by their names."""
    return {name: _setting(config, name) for name in SHOWN_SETTINGS}


def pool_status(
    slots: Iterable[Slot],
    *,
    limit: int,
    queued: int,
    queue_limit: int,
    queue_age: float | None,
    most: MostEver,
) -> PoolStatus:
    counts = dict.fromkeys(map(str, State), 0)
    for slot in slots:
        counts[slot.state] += 1
    return PoolStatus(
        size=sum(counts.values()) - counts["stuck"],
        limit=limit,
        spares=counts["spare"],
        leased=counts["leased"],
        parked=counts.get("parked", 0),
        idle=counts["idle"],
        starting=counts["starting"],
        ending=counts["ending"],
        stuck=counts["stuck"],
        queued=queued,
        queue_limit=queue_limit,
        queue_age=_tenth(queue_age),
        most=most,
    )


def worker_status(
    slot: Slot,
    *,
    pid: int | None,
    running: RunningTurn | None,
    member: Member | None,
    used: Used | None,
    now: float,
) -> WorkerStatus:
    """`now` is in epoch seconds, as are the times of `member`."""
    conversation = None if member is None else member.conversation
    activity = None if member is None else max(0.0, now - member.active_at)
    if running is not None:
        conversation, activity = running.conversation, running.quiet
    return WorkerStatus(
        id=slot.worker,
        pid=pid if pid is not None or member is None else member.pid,
        state=slot.state,
        profile=slot.key.profile,
        model=slot.key.model,
        conversation=conversation,
        request=None if running is None else running.request,
        turn_age=None if running is None else _tenth(running.age),
        last_activity=_tenth(activity),
        cpu=None if used is None else used.cpu,
        memory=None if used is None else used.memory,
        turns=slot.turns,
    )


def worker_statuses(
    slots: Iterable[tuple[Slot, int | None]],
    running: Mapping[str, RunningTurn],
    members: Mapping[str, Member],
    used: Mapping[int, Used],
    now: float,
) -> tuple[WorkerStatus, ...]:
    """Every worker, with its process id where it has one."""
    return tuple(
        worker_status(
            slot,
            pid=pid,
            running=running.get(slot.worker),
            member=members.get(slot.worker),
            used=None if pid is None else used.get(pid),
            now=now,
        )
        for slot, pid in slots
    )


def _setting(config: Config, name: str) -> object:
    table, key = name.split(".")
    return getattr(getattr(config, table), key)


def _tenth(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
