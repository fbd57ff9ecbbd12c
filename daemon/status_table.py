"""The status as tables for a terminal. What it shows is text, whatever it contains."""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Literal

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from maxd.daemon.status import LimitStatus, ProbeStatus, Status

_COLOURS = {"serving": "green", "unavailable": "red", "stopping": "yellow"}
_STATE_COLOURS = {"leased": "blue", "spare": "green", "stuck": "red", "starting": "yellow"}
MOST_ERRORS = 5


def render(status: Status) -> RenderableType:
    """All that fits a terminal."""
    parts: list[RenderableType] = [_head(status)]
    if status.problem is not None:
        parts.append(_text(status.problem, style="red"))
    parts.extend(
        _text(f"configuration not reloaded: {problem}", style="red")
        for problem in status.reload.problems
    )
    if status.reload.needs_restart:
        settings = ", ".join(status.reload.needs_restart)
        parts.append(_text(f"changed, but in force after a restart only: {settings}", "yellow"))
    parts.extend(
        _text(f"{what} cannot be saved: {reason}", style="red")
        for what, reason in status.unsaved.items()
    )
    parts.extend(
        _text(
            f"probe {probe.name} failed: {probe.reason}; this switches off {probe.switches_off}",
            style="yellow",
        )
        for probe in status.cli.probes
        if probe.passed is False
    )
    parts.append(Columns([_pool(status), _totals(status), _cli(status)]))
    if status.limits:
        parts.append(_limits(status.limits, status.now))
    parts.append(_workers(status))
    if status.errors:
        parts.append(_errors(status))
    return Group(*parts)


def span(seconds: float | None) -> str:
    """A duration in few characters."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    if minutes < 120:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def _head(status: Status) -> Text:
    state = _text(f" {status.state} ", style=f"bold reverse {_COLOURS[status.state]}")
    words = f"  version {status.version}, up {span(status.uptime)}, pid {status.pid}"
    return Text.assemble(("maxd ", "bold"), state, words)


def _pool(status: Status) -> Panel:
    pool = status.pool
    age = "" if pool.queue_age is None else f", oldest {span(pool.queue_age)}"
    states = (
        ("leased", pool.leased),
        ("parked", pool.parked),
        ("idle", pool.idle),
        ("spare", pool.spares),
        ("starting", pool.starting),
        ("ending", pool.ending),
        ("stuck", pool.stuck),
    )
    rows = [
        ("workers", f"{pool.size} of {pool.limit}"),
        ("", ", ".join(f"{count} {state}" for state, count in states if count) or "none"),
        ("queue", f"{pool.queued} of {pool.queue_limit}{age}"),
        ("most ever", f"{pool.most.workers} workers, {pool.most.queued} queued"),
    ]
    return _facts("pool", rows)


def _totals(status: Status) -> Panel:
    totals = status.totals
    read = totals.input_tokens + totals.cache_creation_tokens + totals.cache_read_tokens
    rows = [
        ("turns", f"{totals.finished} finished, {totals.failed} failed"),
        ("running", str(status.running)),
        ("tokens", f"{read:,} in, {totals.output_tokens:,} out"),
        ("cost", f"{totals.cost_usd:.2f} $"),
        ("tools", f"{_asked(status, 'allowed')} allowed, {_asked(status, 'denied')} denied"),
    ]
    return _facts("since the start", rows)


def _asked(status: Status, answer: Literal["allowed", "denied"]) -> int:
    return sum(getattr(count, answer) for count in status.decisions.values())


def _cli(status: Status) -> Panel:
    cli = status.cli
    rows = [
        ("version", cli.version or "-"),
        ("login", ", ".join(filter(None, (cli.login, cli.method))) or "-"),
        ("path", cli.path or "-"),
    ]
    rows.append(("probes", _probes(cli.probes)))
    if status.notifications is not None:
        told = status.notifications
        words = f"{told.sent} sent, {told.failed} failed"
        rows.append(("notices", f"{', '.join(told.channels) or 'no channel'}; {words}"))
    return _facts("claude CLI", rows)


def _probes(probes: Iterable[ProbeStatus]) -> str:
    counts = Counter(probe.passed for probe in probes)
    words = {True: "passed", False: "failed", None: "not tried yet"}
    return ", ".join(f"{counts[way]} {word}" for way, word in words.items() if counts[way]) or "-"


def _facts(title: str, rows: Iterable[tuple[str, str]]) -> Panel:
    grid = Table.grid(padding=(0, 1))
    for name, value in rows:
        grid.add_row(_text(name, style="dim"), _text(value))
    return Panel(grid, title=title, title_align="left")


def _limits(limits: Iterable[LimitStatus], now: float) -> Table:
    table = _table("account limit", "", "used", "state", "resets in")
    for limit in limits:
        used = None if limit.utilization is None else round(100 * limit.utilization)
        colour = "red" if limit.status == "rejected" else "yellow" if (used or 0) >= 80 else "green"
        bar = ProgressBar(completed=used or 0, width=20, complete_style=colour)
        left = None if limit.resets_at is None else max(0.0, limit.resets_at - now)
        table.add_row(
            _text(limit.window),
            bar,
            _text("-" if used is None else f"{used} %"),
            _text(limit.status),
            _text(span(left)),
        )
    return table


def _workers(status: Status) -> Table:
    table = _table(
        "worker",
        "pid",
        "state",
        "model",
        "conversation",
        "turn",
        "active",
        "CPU",
        "memory",
        "turns",
    )
    for worker in status.workers:
        table.add_row(
            _text(worker.id),
            _maybe(worker.pid, str),
            _text(worker.state, style=_STATE_COLOURS.get(worker.state, "")),
            _text(f"{worker.model}:{worker.profile}"),
            _maybe(worker.conversation, str),
            _text(span(worker.turn_age)),
            _text(span(worker.last_activity)),
            _maybe(worker.cpu, lambda percent: f"{percent} %"),
            _maybe(worker.memory, lambda size: f"{size / 2**20:.0f} MB"),
            _text(str(worker.turns)),
        )
    return table


def _errors(status: Status) -> Table:
    table = _table("error at", "what", "code", "reason")
    for error in status.errors[:MOST_ERRORS]:
        at = time.strftime("%H:%M:%S", time.localtime(error.at))
        table.add_row(_text(at), _text(error.what), _text(error.code), _text(error.reason))
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(_text(column))
    return table


def _text(words: str, style: str = "") -> Text:
    """Words as they are, but for what could command the terminal."""
    return Text("".join(c if c.isprintable() else "\ufffd" for c in words), style=style)


def _maybe(value: object, words: Callable[..., str]) -> Text:
    return _text("-" if value is None else words(value))
