"""The account's limits, the probes, the notices, the last reload and what cannot be saved, as the
status page tells them."""

from collections.abc import Iterable
from typing import Protocol

from maxd.daemon.account import AccountView
from maxd.daemon.notify import NotifierState
from maxd.daemon.reloading import Reloading
from maxd.daemon.status import LimitStatus, NotificationStatus, ProbeStatus, ReloadStatus
from maxd.workers.features import PROBES, RESET, Finding


def limits_of(view: AccountView) -> tuple[LimitStatus, ...] | None:
    """The usage windows that are known; None where the service has told of none, as with an API
    key."""
    closed = {closure.window for closure in view.closures}
    return (
        tuple(
            LimitStatus(
                window=window.name,
                status=window.status or ("rejected" if window.name in closed else "unknown"),
                utilization=window.utilization,
                resets_at=window.resets_at,
            )
            for window in view.windows
        )
        or None
    )


def notifications_of(state: NotifierState) -> NotificationStatus:
    """What has become of the notices, over all channels."""
    channels = state.channels
    sent = [channel.last_sent for channel in channels if channel.last_sent is not None]
    problems = [channel.last_error for channel in channels if channel.last_error is not None]
    return NotificationStatus(
        channels=tuple(channel.name for channel in channels),
        sent=sum(channel.sent for channel in channels),
        failed=sum(channel.failed + channel.dropped for channel in channels) + state.dropped,
        last_at=max(sent, default=None),
        last_problem=problems[-1] if problems else None,
    )


def reload_of(reloading: Reloading) -> ReloadStatus:
    """What came of the last attempt to change the configuration."""
    return ReloadStatus(
        at=reloading.at, problems=reloading.problems, needs_restart=reloading.needs_restart
    )


class Saver(Protocol):
    """Saves something in the state directory."""

    @property
    def trouble(self) -> str | None:
        """Why it cannot, while it cannot."""


def unsaved_of(**savers: Saver | None) -> dict[str, str]:
    """Why what is kept in the state directory cannot be saved, where it cannot."""
    return {
        name: saver.trouble
        for name, saver in savers.items()
        if saver is not None and saver.trouble is not None
    }


def probes_of(
    findings: Iterable[Finding] | None, *, reset: bool | None, reset_failure: str | None
) -> tuple[ProbeStatus, ...]:
    """What every probe has found of the present CLI, in the order they are tried; those of
    resets run by themselves."""
    told = (
        [ProbeStatus(name=name, passed=None, switches_off=off) for name, _, off in PROBES]
        if findings is None
        else [
            ProbeStatus(
                name=finding.name,
                passed=finding.passed,
                reason=finding.reason or None,
                switches_off=finding.switches_off,
            )
            for finding in findings
        ]
    )
    name, off = RESET
    return (
        *told,
        ProbeStatus(name=name, passed=reset, reason=reset_failure, switches_off=off),
    )
