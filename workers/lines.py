"""Bytes in, whole lines out."""

from collections.abc import Iterator


class LineTooLong(Exception):
    """A line has grown past the buffer's limit without ending."""


class LineBuffer:
    """Cuts a stream of bytes into lines, in time linear in the bytes however they arrive.

    A line of many megabytes comes in thousands of reads: the pieces are kept in a list and joined
    once, when the line ends, so nothing is scanned or copied twice. Bytes stay bytes: a UTF-8
    sequence split between two reads needs no care.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pieces: list[bytes] = []
        # Invariant: the sum of the lengths in _pieces; no piece holds a newline.
        self._held = 0

    @property
    def held(self) -> int:
        """Bytes of the line that has not ended yet."""
        return self._held

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Add `data`; yield the lines it completes, in order, without their newlines.

        To be run to its end. Raises LineTooLong when a line would pass the limit, after the lines
        before it; the buffer is then empty.
        """
        *ended, rest = data.split(b"\n")
        for piece in ended:
            self._hold(piece)
            line = b"".join(self._pieces)
            self._pieces.clear()
            self._held = 0
            yield line
        if rest:
            self._hold(rest)

    def _hold(self, piece: bytes) -> None:
        if self._held + len(piece) > self._limit:
            self._pieces.clear()
            self._held = 0
            raise LineTooLong(f"a line of more than {self._limit} bytes")
        self._pieces.append(piece)
        self._held += len(piece)
