"""The account's usage windows as all turns have met them, and whom they refuse: pure.

What the service says comes with the turns (AccountLimit events, UsageLimit faults); nothing is
polled. A window that is used up refuses turns before any process is touched, until it begins anew.

- Whom it refuses: `five_hour`, `seven_day` and `overage` are the whole account's. The others are
  those of a family of models (`seven_day_opus`), and refuse the family whose turn has met them.
- Until when: the reset that the service named, by the wall clock or by the monotonic one, whatever
  comes first: one of them may jump or stand still. A reset that is missing, past or more than
  8 days ahead is not believed; after `AGAIN_SECONDS` one turn at a time may try.
- `allowed` does not open anything before that, except by such a trial: it may come from a turn
  that has begun before the window was used up (the CLI tells it at the end of a message).
"""

import re
import time
from collections.abc import Callable

from msgspec import Struct

from maxd.workers.account_limits import seconds_left
from maxd.workers.faults import UsageLimit
from maxd.workers.turn import AccountLimit, UsageWindow

AGAIN_SECONDS = 60.0
# How soon to come back while a trial is under way: it is answered or refused within seconds.
TRIAL_SECONDS = 5.0

WHOLE_ACCOUNT = ""
"""The scope of a window that is not that of one family of models."""
_OF_THE_ACCOUNT = frozenset(("five_hour", "seven_day", "overage"))
_FAMILY = re.compile(r"claude(?:[-.0-9]+)?-([a-z]+)")
_ALIAS = re.compile(r"[a-z]+")


class Closure(Struct, frozen=True):
    """A window that refuses turns. `scope` is a family of models, or WHOLE_ACCOUNT. `resets_at` is
    in epoch seconds, None where the service named no time that can be believed."""

    scope: str
    window: str | None
    resets_at: float | None


class AccountView(Struct, frozen=True):
    """What is known of the account, for those who show it. `windows` are those the service has told
    of, `closures` the ones that refuse turns now. `refused` counts the turns refused so far."""

    windows: tuple[UsageWindow, ...]
    closures: tuple[Closure, ...]
    refused: int
    uses_overage: bool


class _Closed(Struct):
    closure: Closure
    # Wall and monotonic clock; whichever comes first.
    until_wall: float
    until: float
    # The turn that may try, while it does.
    trial: object | None = None


class Account:
    """One shared view. `wall` is in epoch seconds. `on_closed` is told each closure that is new."""

    def __init__(
        self,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        on_closed: Callable[[Closure], None] = lambda closure: None,
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self.on_closed = on_closed
        self._windows: dict[str, UsageWindow] = {}
        # The window that the service has named last as the one that counts most.
        self._named: str | None = None
        self._uses_overage = False
        self._closed: dict[str, _Closed] = {}
        self._refused = 0

    def check(self, model: str) -> None:
        """Raise UsageLimit, and count it, when no turn of `model` may begin now."""
        fault = self.refusal(model)
        if fault is not None:
            self._refused += 1
            raise fault

    def begin(self, model: str, turn: object) -> None:
        """`turn`, which `check` has let through, begins. Where a window that was used up may be
        tried, it is the one that does; `answered` or `left` must tell how that went."""
        for closed in self._concerning(model):
            closed.trial = turn

    def left(self, turn: object) -> None:
        """`turn` is over. If it was to try and has found out nothing, the next one may."""
        for closed in self._closed.values():
            if closed.trial is turn:
                closed.trial = None

    def refusal(self, model: str) -> UsageLimit | None:
        """Why a turn of `model` cannot begin now; None when it can."""
        waits = [(self._wait(closed), closed) for closed in self._concerning(model)]
        longest = max(waits, key=lambda wait: wait[0], default=None)
        if longest is None or longest[0] <= 0:
            return None
        seconds, closed = longest
        return UsageLimit(
            "usage limit of the account reached",
            retry_after=max(1.0, seconds),
            window=closed.closure.window,
            resets_at=closed.closure.resets_at,
        )

    def answered(self, turn: object) -> None:
        """The service has begun to answer `turn`: what it has tried is open."""
        for scope, closed in list(self._closed.items()):
            if closed.trial is turn:
                del self._closed[scope]

    def note(self, limit: AccountLimit, model: str) -> None:
        """What the service said of the account in a turn of `model`."""
        self._named = limit.window
        self._uses_overage = limit.uses_overage
        for window in limit.windows:
            self._windows[window.name] = window
        if limit.window is not None and all(each.name != limit.window for each in limit.windows):
            self._windows[limit.window] = UsageWindow(
                limit.window, limit.status, limit.utilization, limit.resets_at
            )
        if limit.used_up and not limit.uses_overage:
            self._close(limit.window, limit.resets_at, model)

    def note_fault(self, fault: UsageLimit, model: str) -> None:
        """The service has refused a turn of `model`."""
        self._close(fault.window, fault.resets_at, model)

    def forget(self) -> None:
        """Another login: nothing that was said of the last one counts."""
        self._windows.clear()
        self._closed.clear()
        self._named, self._uses_overage = None, False

    def view(self) -> AccountView:
        """A snapshot. Windows whose time is over are left out."""
        now = self._wall()
        return AccountView(
            windows=tuple(
                window
                for window in self._windows.values()
                if window.resets_at is None or window.resets_at > now
            ),
            closures=tuple(
                closed.closure for closed in self._closed.values() if not self._is_over(closed)
            ),
            refused=self._refused,
            uses_overage=self._uses_overage,
        )

    def tightest(self) -> UsageWindow | None:
        """The window that ends first to be enough: of those with a known utilization the one that
        is used most. None where the service has told of none."""
        known = [window for window in self.view().windows if window.utilization is not None]
        return max(known, key=lambda window: window.utilization or 0.0, default=None)

    @property
    def named(self) -> UsageWindow | None:
        """The window that the service has named last as the one that counts most."""
        return None if self._named is None else self._windows.get(self._named)

    def _close(self, window: str | None, resets_at: float | None, model: str) -> None:
        scope = scope_of(window, model)
        wall, now = self._wall(), self._monotonic()
        left = seconds_left(resets_at, wall)
        closure = Closure(scope, window, None if left is None else resets_at)
        seconds = AGAIN_SECONDS if left is None else left
        before = self._closed.get(scope)
        self._closed[scope] = _Closed(closure, wall + seconds, now + seconds)
        if before is None or before.closure != closure:
            self.on_closed(closure)

    def _concerning(self, model: str) -> list[_Closed]:
        """The closures that concern `model`, without those that are over."""
        for scope, closed in list(self._closed.items()):
            if self._is_over(closed):
                del self._closed[scope]
        scopes = (WHOLE_ACCOUNT, family(model))
        return [self._closed[scope] for scope in scopes if scope in self._closed]

    def _is_over(self, closed: _Closed) -> bool:
        """Only a closure whose end is known ends by itself; the others end by a trial."""
        return closed.closure.resets_at is not None and self._seconds_left(closed) <= 0

    def _wait(self, closed: _Closed) -> float:
        """How long a turn has to wait for `closed`; 0: it may try."""
        left = self._seconds_left(closed)
        if left <= 0 and closed.trial is not None:
            return TRIAL_SECONDS
        return max(0.0, left)

    def _seconds_left(self, closed: _Closed) -> float:
        return min(closed.until_wall - self._wall(), closed.until - self._monotonic())


def scope_of(window: str | None, model: str) -> str:
    """Whom `window` refuses when a turn of `model` has met it. A window of an unknown name, or
    without one, may be of one family of models: the others find out by themselves."""
    return WHOLE_ACCOUNT if window in _OF_THE_ACCOUNT else family(model)


def family(model: str) -> str:
    """The family of a model's name: `opus` of `claude-opus-4-5`, of `claude-3-opus-…` and of `opus`
    itself. A name of another form is its own family."""
    if (found := _FAMILY.search(model)) is not None:
        return found[1]
    alias = _ALIAS.match(model)
    return model if alias is None else alias[0]


def window_name(closure: Closure) -> str:
    """What to call the window of `closure` to people: the service's name, and whose it is."""
    window = closure.window or "unknown"
    return window if closure.scope == WHOLE_ACCOUNT else f"{window} ({closure.scope})"
