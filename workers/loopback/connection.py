"""One HTTP/1.1 connection of the loopback model: h11's state machine on a socket."""

from contextlib import suppress

import h11
import trio

from maxd.workers.loopback.wire import Answer

# The API's own clients send one or two kilobytes of headers.
MAX_HEAD = 64 * 2**10
# As much as a client may send ahead of an answer; the connection is given up past it.
MAX_AHEAD = 64 * 2**20
# What is due at once is sent at once, since the cost is per send; but a large answer shall not be
# held in memory twice.
MAX_SEND = 64 * 2**10


class Gone(Exception):
    """The client has closed the connection."""


class Connection:
    """Receives requests and sends answers, one after the other.

    Every method raises Gone when the client has gone and h11.RemoteProtocolError when it talks
    nonsense; after either, and after a cancellation, the connection can only be closed.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        # A SocketStream has TCP_NODELAY set.
        self._stream = stream
        self._state = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)

    async def receive_head(self) -> h11.Request | None:
        """The next request up to its body, or None if no more come."""
        event = await self._receive()
        return event if isinstance(event, h11.Request) else None

    async def receive_piece(self) -> bytes | None:
        """The next piece of the request's body, or None after the last."""
        if self._state.they_are_waiting_for_100_continue:
            proceed = h11.InformationalResponse(status_code=100, headers=[])
            await self._write(self._state.send(proceed) or b"")
        event = await self._receive()
        return event.data if isinstance(event, h11.Data) else None

    async def send_json(self, status: int, data: bytes, *, closes: bool = False) -> None:
        """Send a whole answer; with `closes` it is the last of this connection."""
        headers = [("content-type", "application/json"), ("content-length", str(len(data)))]
        if closes:
            headers.append(("connection", "close"))
        head = self._event(h11.Response(status_code=status, headers=headers))
        await self._write(head + self._body(data) + self._event(h11.EndOfMessage()))

    async def send(self, answer: Answer) -> None:
        """Send `answer` at its pace. Raises Gone as soon as the client goes away."""
        if not answer.patient:
            await self._send(answer)
            return
        finished = False

        async def watch() -> None:
            await self._wait_gone()
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            try:
                await self._send(answer)
                finished = True
            except Gone:
                pass
            nursery.cancel_scope.cancel()
        if not finished:
            raise Gone

    def start_next(self) -> bool:
        """Get ready for another request. False if the connection ends here."""
        if self._state.our_state is not h11.DONE or self._state.their_state is not h11.DONE:
            return False
        self._state.start_next_cycle()
        return True

    async def _send(self, answer: Answer) -> None:
        if answer.delay:
            await trio.sleep(answer.delay)
        if not answer.silent:
            await self._send_frames(answer)
        if answer.ending == "stall":
            await trio.sleep_forever()

    async def _send_frames(self, answer: Answer) -> None:
        head = self._event(h11.Response(status_code=answer.status, headers=answer.headers))
        ready = bytearray()
        due = trio.current_time()
        for wait, data in answer.frames:
            if wait:
                # From when the last was due, not from now: the pace holds on a busy machine too.
                due += wait
                if due > trio.current_time():
                    await self._write(head + self._body(ready))
                    head, ready = b"", bytearray()
                    await trio.sleep_until(due)
            ready += data
            if len(ready) > MAX_SEND:
                await self._write(head + self._body(ready))
                head, ready = b"", bytearray()
        rest = head + self._body(ready)
        if answer.ending == "end":
            rest += self._event(h11.EndOfMessage())
        await self._write(rest)

    def _event(self, event: h11.Response | h11.EndOfMessage) -> bytes:
        return self._state.send(event) or b""

    def _body(self, data: bytes | bytearray) -> bytes:
        return (self._state.send(h11.Data(data=bytes(data))) or b"") if data else b""

    async def _receive(self) -> object:
        """The next event of h11, or h11.PAUSED."""
        while (event := self._state.next_event()) is h11.NEED_DATA:
            try:
                data = await self._stream.receive_some()
            except trio.BrokenResourceError:
                raise Gone from None
            self._state.receive_data(data)
        return event

    async def _write(self, data: bytes) -> None:
        if data:
            try:
                await self._stream.send_all(data)
            except trio.BrokenResourceError:
                raise Gone from None

    async def _wait_gone(self) -> None:
        ahead = 0
        with suppress(trio.BrokenResourceError):
            while ahead < MAX_AHEAD and (data := await self._stream.receive_some()):
                self._state.receive_data(data)
                ahead += len(data)
