"""How many workers the machine has memory for."""

from pathlib import Path, PurePosixPath
from typing import Final

import psutil

PER_WORKER: Final = 220 * 2**20
"""Bytes a warm worker needs. CLI 2.1.330 had 185 to 205 MiB RSS, nearly all of it private."""

# Above this the account's own limits and the CPU (0.6 s for each start) are what is scarce.
MOST_WORKERS: Final = 64

CGROUPS: Final = Path("/sys/fs/cgroup")
OWN_CGROUP: Final = Path("/proc/self/cgroup")


def worker_budget(available: int, fraction: float, *, per_worker: int = PER_WORKER) -> int:
    """How many workers fit into `fraction` of `available` bytes: at least one, at most 64."""
    return max(1, min(MOST_WORKERS, int(available * fraction) // per_worker))


def available_memory(*, cgroups: Path = CGROUPS, own_cgroup: Path = OWN_CGROUP) -> int:
    """Bytes that can still be taken: what the machine has available, or less where this process
    or one of its parents is limited by cgroup v2 (a container, a systemd unit)."""
    rooms: list[int] = [psutil.virtual_memory().available]
    for group in _groups(cgroups, own_cgroup):
        limits = [_number(group / name) for name in ("memory.max", "memory.high")]
        used = _number(group / "memory.current")
        set_limits = [limit for limit in limits if limit is not None]
        if set_limits and used is not None:
            rooms.append(max(0, min(set_limits) - (used - _reclaimable(group))))
    return min(rooms)


def memory_is_below(reserve: int) -> bool:
    """Whether fewer than `reserve` bytes can be taken. False where that cannot be found out now:
    in a daemon that has no file left to open, it must not end everything."""
    try:
        return available_memory() < reserve
    except OSError:
        return False


def _groups(cgroups: Path, own_cgroup: Path) -> list[Path]:
    """The directories of this process's cgroup and of all above it. Inside a container the root
    is the container's own group and has limits too."""
    try:
        lines = own_cgroup.read_text().splitlines()
    except OSError:  # not Linux
        return []
    # Only v2 has the number 0 and no controllers.
    paths = [PurePosixPath(line.removeprefix("0::")) for line in lines if line.startswith("0::")]
    groups = []
    for path in paths:
        # A group outside this namespace is shown with `..`: nothing of it can be read here.
        inside = PurePosixPath("/") if ".." in path.parts else path
        groups += [cgroups / part.relative_to("/") for part in (inside, *inside.parents)]
    return groups


def _reclaimable(group: Path) -> int:
    """Page cache that the kernel gives back before it enforces a limit."""
    try:
        lines = (group / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    values = dict(line.split(" ", 1) for line in lines if " " in line)
    inactive = values.get("inactive_file", "")
    return int(inactive) if inactive.isdecimal() else 0


def _number(path: Path) -> int | None:
    """The number in a cgroup file; None if there is none (`max`) or it cannot be read."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None
