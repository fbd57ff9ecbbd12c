"""Where an answer ends before the model ends it: at a stop text, or after so many tokens.

The CLI takes neither for a running process, so the events are cut on their way to the client.
"""

from collections.abc import Iterable, Iterator, Sequence

from msgspec.structs import replace

from maxd.workers.turn import (
    CallDelta,
    CallStarted,
    Event,
    Finished,
    RoundBroken,
    RoundEnded,
    RoundStarted,
    TextDelta,
    Usage,
)

QUARTERS = 4
"""No tokenizer is public. Counted in quarters of a token: a character of ASCII is one (English
has about four to a token, code rather three), one of two bytes in UTF-8 two, of three bytes four,
of four bytes eight. So an answer is within about a third of what was asked for."""


class Cut:
    """Filters the events of one turn: text up to the first of `stop`, and text and calls of about
    `max_tokens` tokens. Thinking counts as none.

    A stop text may come in any pieces and no piece of it is ever let through: text that may be
    the beginning of one waits for what follows. It does not reach across a call. Calls are let
    through whole, with `max_tokens` therefore only when they have ended; one that does not fit
    ends the answer before it. However the events are spread over calls of `feed`, what comes out
    is the same.
    """

    def __init__(self, stop: Sequence[str], max_tokens: int | None) -> None:
        self._stop = stop
        self._room = None if max_tokens is None else max_tokens * QUARTERS
        self._used = 0
        # Text that may be the beginning of a stop text.
        self._tail = ""
        # The call in progress, where it may turn out not to fit.
        self._call: list[Event] = []
        # The tokens of the rounds, as far as they were told when they began.
        self._begun = Usage()
        self.finished: Finished | None = None

    def feed(self, events: Iterable[Event]) -> list[Event]:
        """The events that may go to the client now. Once the answer is cut the last of them is a
        Finished with the input that the service told of and the output estimated, also in
        `finished`, and nothing comes after."""
        released: list[Event] = []
        for event in events:
            if self.finished is not None:
                break
            released.extend(self._event(event))
        return released

    def _event(self, event: Event) -> Iterator[Event]:
        match event:
            case TextDelta(text):
                yield from self._end_call()
                yield from self._text(text)
            case CallStarted() | CallDelta():
                yield from self._call_event(event)
            case RoundEnded() | Finished():
                yield from self._end_call()
                yield from self._flush()
                if self.finished is None:
                    yield event
            case RoundStarted(_, usage):
                self._begun = Usage(
                    self._begun.input_tokens + usage.input_tokens,
                    self._begun.cache_creation_tokens + usage.cache_creation_tokens,
                    self._begun.cache_read_tokens + usage.cache_read_tokens,
                )
                yield event
            case RoundBroken():
                # What came of the round is void.
                self._tail = ""
                self._call = []
                yield event
            case _:
                yield event

    def _text(self, text: str) -> Iterator[Event]:
        if self.finished is not None:
            return
        text = self._tail + text
        found = first_stop(text, self._stop)
        if found is not None:
            begin, stop = found
            self._tail = ""
            yield from self._release(text[:begin])
            yield from self._end("stop_sequence", stop)
            return
        held = beginning_length(text, self._stop)
        self._tail = text[len(text) - held :]
        yield from self._release(text[: len(text) - held])

    def _flush(self) -> Iterator[Event]:
        """The text that was no stop text after all."""
        text, self._tail = self._tail, ""
        yield from self._release(text)

    def _release(self, text: str) -> Iterator[Event]:
        if not text or self.finished is not None:
            return
        fits = self._fitting(text)
        if fits:
            yield TextDelta(text[:fits])
        if fits < len(text):
            yield from self._end("max_tokens")

    def _fitting(self, text: str) -> int:
        """How many characters of `text` there is room for; they are taken."""
        size = quarters(text)
        if self._room is None or self._used + size <= self._room:
            self._used += size
            return len(text)
        for count, character in enumerate(text):
            size = quarters(character)
            if self._used + size > self._room:
                return count
            self._used += size
        return len(text)

    def _call_event(self, event: CallStarted | CallDelta) -> Iterator[Event]:
        if isinstance(event, CallStarted):
            yield from self._end_call()
            yield from self._flush()
            if self.finished is not None:
                return
        size = quarters(event.name if isinstance(event, CallStarted) else event.arguments)
        self._used += size
        if self._room is None:
            yield event
        elif self._used > self._room:
            self._used -= size + sum(map(_size, self._call))
            self._call = []
            yield from self._end("max_tokens")
        else:
            self._call.append(event)

    def _end_call(self) -> Iterator[Event]:
        """The call in progress is whole."""
        yield from self._call
        self._call = []

    def _end(self, reason: str, stop: str | None = None) -> Iterator[Event]:
        if self.finished is None:
            usage = replace(self._begun, output_tokens=-(-self._used // QUARTERS))
            self.finished = Finished(reason, usage, stop)
            yield self.finished


def _size(event: Event) -> int:
    match event:
        case CallStarted(_, name):
            return quarters(name)
        case CallDelta(arguments):
            return quarters(arguments)
        case _:
            return 0


def quarters(text: str) -> int:
    """The size of `text` in quarters of a token, about."""
    if text.isascii():
        return len(text)
    return sum(
        1 if point < 0x80 else 2 if point < 0x800 else 4 if point < 0x10000 else 8
        for point in map(ord, text)
    )


def first_stop(text: str, stops: Iterable[str]) -> tuple[int, str] | None:
    """Where the stop text that ends first begins, and which it is; of two that end together the
    longer."""
    found = [(begin + len(stop), begin, stop) for stop in stops if (begin := text.find(stop)) >= 0]
    if not found:
        return None
    _, begin, stop = min(found)
    return begin, stop


def beginning_length(text: str, stops: Iterable[str]) -> int:
    """The length of the longest end of `text` with which a stop text begins."""
    longest = 0
    for stop in stops:
        place = text.find(stop[0], max(0, len(text) - len(stop) + 1))
        while place >= 0 and len(text) - place > longest:
            if stop.startswith(text[place:]):
                longest = len(text) - place
                break
            place = text.find(stop[0], place + 1)
    return longest
