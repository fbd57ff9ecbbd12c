"""What the user is told when nobody watches, and how often: pure code, times in seconds of one
monotonic clock."""

from collections import deque
from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from maxd.workers.faults import Fault

MOST_PER_HOUR = 30
"""Whatever happens, nobody is sent more. What is over is dropped, and counted."""
HOUR = 3600.0


class Kind(StrEnum):
    """What a notice is about. All but the first and the last are conditions, which end."""

    TURN_TIMED_OUT = "turn_timed_out"
    BACKEND_UNAVAILABLE = "backend_unavailable"
    LOGIN_EXPIRES = "login_expires"
    ACCOUNT_LIMIT = "account_limit"
    POOL_DEGRADED = "pool_degraded"
    TEST = "test"


EVENTS = frozenset((Kind.TURN_TIMED_OUT, Kind.TEST))


class Notice(Struct, frozen=True, kw_only=True):
    """Something the user wants to know: what has happened, and what to do. Nothing of a prompt.

    `over`: the condition has ended. `subject` tells apart what may be so at the same time, such as
    two windows of the account.
    """

    kind: Kind
    title: str
    text: str
    over: bool = False
    subject: str = ""


class Message(Struct, frozen=True):
    """A notice as it is sent; `count` is how often it has come since the last was sent."""

    notice: Notice
    count: int = 1

    @property
    def title(self) -> str:
        return f"maxd: {self.notice.title}"

    @property
    def text(self) -> str:
        if self.count == 1:
            return self.notice.text
        return f"{self.notice.text}\n({self.count} times since the last message.)"


def turn_timed_out(fault: Fault) -> Notice:
    return Notice(
        kind=Kind.TURN_TIMED_OUT,
        title="a turn was ended",
        text=f"{_sentence(fault.message)} Its processes have been killed and its client was told. "
        "If the work was slow and not stuck, raise its profile's activity_minutes or turn_minutes.",
    )


def backend_unavailable(fault: Fault) -> Notice:
    return Notice(
        kind=Kind.BACKEND_UNAVAILABLE,
        title="the claude CLI cannot be used",
        text=f"{_sentence(fault.message)} Until that is mended every request is refused with 503.",
    )


def backend_available() -> Notice:
    return Notice(
        kind=Kind.BACKEND_UNAVAILABLE,
        title="the claude CLI can be used again",
        text="Requests are served again.",
        over=True,
    )


def login_expires(seconds: float) -> Notice:
    """The login ends in so many seconds, and is not renewed by itself."""
    days = seconds / 86_400
    left = f"{days:.0f} days" if days >= 2 else f"{max(0.0, seconds) / HOUR:.0f} hours"
    return Notice(
        kind=Kind.LOGIN_EXPIRES,
        title="the login is about to expire",
        text=f"The claude CLI's login expires in {left}. Run `maxd claude` and log in with /login.",
    )


def login_renewed() -> Notice:
    return Notice(
        kind=Kind.LOGIN_EXPIRES,
        title="the login has been renewed",
        text="Nothing is to be done.",
        over=True,
    )


def account_limit(window: str, resets_at: float | None) -> Notice:
    """The account's usage window is used up, until `resets_at` (epoch seconds)."""
    until = "it resets"
    if resets_at is not None:
        until = f"{datetime.fromtimestamp(resets_at).astimezone():%Y-%m-%d %H:%M %Z}"
    return Notice(
        kind=Kind.ACCOUNT_LIMIT,
        subject=window,
        title="the plan's usage window is used up",
        text=f"The window {window} is used up. Requests are refused with 429 until {until}.",
    )


def account_open(window: str) -> Notice:
    return Notice(
        kind=Kind.ACCOUNT_LIMIT,
        subject=window,
        title="the plan's usage window is open again",
        text=f"The window {window} has room again. Requests are served.",
        over=True,
    )


def pool_degraded(fault: Fault) -> Notice:
    return Notice(
        kind=Kind.POOL_DEGRADED,
        title="workers cannot be started",
        text=f"{_sentence(fault.message)} Several starts in a row have failed. Requests are "
        "refused until one works; maxd goes on trying. Its log has the reasons.",
    )


def pool_recovered() -> Notice:
    return Notice(
        kind=Kind.POOL_DEGRADED,
        title="workers can be started again",
        text="Requests are served again.",
        over=True,
    )


def trial_notice() -> Notice:
    return Notice(
        kind=Kind.TEST,
        title="this is a test",
        text="`maxd notify-test` sent this. There is nothing to do.",
    )


class _Told:
    """What has been said of one kind and subject."""

    def __init__(self) -> None:
        self.quiet_until = 0.0
        # The last notice that was not sent yet, and how many there were.
        self.held: Notice | None = None
        self.count = 0
        # The condition that the user believes to be so.
        self.standing: Notice | None = None


class Digest:
    """Decides which notices are sent now.

    Of a kind and subject one is sent in `interval`; what comes in between is sent once at its end,
    with a count. A condition that stands is not told again, and its end is told if it was told.
    """

    def __init__(self, interval: float, most_per_hour: int = MOST_PER_HOUR) -> None:
        self._interval = interval
        self._most = most_per_hour
        self._told: dict[tuple[Kind, str], _Told] = {}
        self._sent: deque[float] = deque()
        self.dropped = 0

    def __repr__(self) -> str:
        held = sum(told.count for told in self._told.values())
        return f"<Digest of {len(self._told)} subjects, {held} held back>"

    def tell(self, notice: Notice, now: float) -> Message | None:
        """The message to send now for `notice`, if there is one."""
        told = self._told.setdefault((notice.kind, notice.subject), _Told())
        if notice.over:
            # What was held back has ended before it was told.
            told.held, told.count = None, 0
            known, told.standing = told.standing, None
            return None if known is None else self._within_rate(Message(notice), now)
        if told.standing == notice:
            return None
        told.held = notice
        told.count += 1
        return self._release(told, now)

    def due(self, now: float) -> list[Message]:
        """The messages that were held back until now."""
        released = [self._release(told, now) for told in self._told.values()]
        self._told = {
            key: told
            for key, told in self._told.items()
            if told.held or told.standing or now < told.quiet_until
        }
        return [message for message in released if message is not None]

    def wake_at(self) -> float | None:
        """When to call `due`; None while nothing is held back."""
        return min((told.quiet_until for told in self._told.values() if told.held), default=None)

    def _release(self, told: _Told, now: float) -> Message | None:
        if told.held is None or now < told.quiet_until:
            return None
        message = Message(told.held, told.count)
        told.quiet_until = now + self._interval
        told.standing = None if told.held.kind in EVENTS else told.held
        told.held, told.count = None, 0
        return self._within_rate(message, now)

    def _within_rate(self, message: Message, now: float) -> Message | None:
        while self._sent and self._sent[0] <= now - HOUR:
            self._sent.popleft()
        if len(self._sent) >= self._most:
            self.dropped += 1
            return None
        self._sent.append(now)
        return message


def _sentence(message: str) -> str:
    """A fault's message as a sentence."""
    text = message.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
