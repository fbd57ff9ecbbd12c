"""Sends notices through the user's channels, beside everything else and never in its way."""

import math
import time
from collections.abc import Sequence
from functools import partial

import trio
from msgspec import Struct
from structlog.typing import FilteringBoundLogger

from maxd.daemon.channels import Channel, NotSent
from maxd.daemon.notices import Digest, Message, Notice

SEND_SECONDS = 30.0
"""The deadline of one try. What then still runs in its thread is left to itself."""
RETRY_SECONDS = (10.0, 60.0)
"""How long after a try that failed the next is made."""
QUEUE_LENGTH = 16
"""Messages that wait for one channel; it takes a channel that hangs and an hour to fill it."""


class ChannelState(Struct, frozen=True):
    """What has become of one channel's messages. `last_error` holds no secret and is None after a
    message that was delivered; `last_sent` is in epoch seconds."""

    name: str
    sent: int
    failed: int
    dropped: int
    last_error: str | None
    last_sent: float | None


class NotifierState(Struct, frozen=True):
    """What has become of the notices. `dropped` counts what was too much for an hour."""

    channels: tuple[ChannelState, ...]
    dropped: int


class _Outlet:
    """One channel and what waits for it."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.tell, self.told = trio.open_memory_channel[Message](QUEUE_LENGTH)
        self.sent = self.failed = self.dropped = 0
        self.last_error: str | None = None
        self.last_sent: float | None = None

    def state(self) -> ChannelState:
        return ChannelState(
            self.channel.name,
            self.sent,
            self.failed,
            self.dropped,
            self.last_error,
            self.last_sent,
        )


class Notifier:
    """Takes notices and sends those that the Digest lets through, each channel by itself."""

    def __init__(
        self, channels: Sequence[Channel], log: FilteringBoundLogger, *, interval_seconds: float
    ) -> None:
        self._outlets = [_Outlet(channel) for channel in channels]
        self._log = log
        self._digest = Digest(interval_seconds)
        self._held = trio.Event()
        # Its own: threads that hang must not take the places of others.
        self._threads = trio.CapacityLimiter(max(1, 2 * len(self._outlets)))

    def __repr__(self) -> str:
        return f"<Notifier with {len(self._outlets)} channels, {self._digest!r}>"

    def tell(self, notice: Notice) -> None:
        """Something has happened. Never blocks; may be called before and after `run`."""
        message = self._digest.tell(notice, trio.current_time())
        if message is not None:
            self._post(message)
        self._held.set()

    def state(self) -> NotifierState:
        return NotifierState(
            tuple(outlet.state() for outlet in self._outlets), self._digest.dropped
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Send until cancelled. Cancelling does not wait for what is being sent."""
        async with trio.open_nursery() as nursery:
            for outlet in self._outlets:
                nursery.start_soon(self._serve, outlet)
            task_status.started()
            while True:
                wake = self._digest.wake_at()
                with trio.move_on_at(math.inf if wake is None else wake):
                    await self._held.wait()
                self._held = trio.Event()
                for message in self._digest.due(trio.current_time()):
                    self._post(message)

    async def send_now(self, message: Message) -> list[tuple[str, str | None]]:
        """Try `message` once on every channel; for each its name and why it was not sent, or
        None."""
        outcomes: dict[int, str | None] = {}

        async def one(number: int, channel: Channel) -> None:
            failure = await self._try(channel, message)
            outcomes[number] = None if failure is None else failure.reason

        async with trio.open_nursery() as nursery:
            for number, outlet in enumerate(self._outlets):
                nursery.start_soon(one, number, outlet.channel)
        return [(outlet.channel.name, outcomes[i]) for i, outlet in enumerate(self._outlets)]

    def _post(self, message: Message) -> None:
        for outlet in self._outlets:
            try:
                outlet.tell.send_nowait(message)
            except trio.WouldBlock:
                outlet.dropped += 1

    async def _serve(self, outlet: _Outlet) -> None:
        async for message in outlet.told:
            failure = await self._try(outlet.channel, message)
            for pause in RETRY_SECONDS:
                if failure is None or not failure.again:
                    break
                outlet.last_error = failure.reason
                await trio.sleep(pause)
                failure = await self._try(outlet.channel, message)
            kind, name = message.notice.kind.value, outlet.channel.name
            if failure is None:
                outlet.sent += 1
                outlet.last_sent, outlet.last_error = time.time(), None
                self._log.info("notified", channel=name, kind=kind, over=message.notice.over)
            else:
                outlet.failed += 1
                outlet.last_error = failure.reason
                self._log.warning("not notified", channel=name, kind=kind, reason=failure.reason)

    async def _try(self, channel: Channel, message: Message) -> NotSent | None:
        try:
            with trio.fail_after(SEND_SECONDS):
                await trio.to_thread.run_sync(
                    partial(channel.send, message), abandon_on_cancel=True, limiter=self._threads
                )
        except NotSent as failure:
            return failure
        except trio.TooSlowError:
            return NotSent(f"no answer within {SEND_SECONDS:.0f} s", again=False)
        except Exception as error:
            # A plugin's, of which there are a hundred: it is logged as the reason and shown in the
            # status. Never its words: they may quote a secret.
            return NotSent(type(error).__name__, again=False)
        return None
