"""Lines: the same from any stream of bytes, however it is cut."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxd.workers.lines import LineBuffer, LineTooLong

LIMIT = 8


def fed(pieces: list[bytes], limit: int = LIMIT) -> tuple[list[bytes], bool]:
    """The lines of a stream that comes in `pieces`, and whether a line was too long."""
    buffer = LineBuffer(limit)
    lines: list[bytes] = []
    try:
        for piece in pieces:
            for line in buffer.feed(piece):
                lines.append(line)
    except LineTooLong:
        assert buffer.held == 0
        return lines, True
    return lines, False


@pytest.mark.parametrize(
    ("data", "lines", "held"),
    [
        (b"", [], 0),
        (b"\n", [b""], 0),
        (b"a", [], 1),
        (b"a\n", [b"a"], 0),
        (b"a\nb", [b"a"], 1),
        (b"a\n\nb\n", [b"a", b"", b"b"], 0),
        (b"a\r\n", [b"a\r"], 0),
        (b"\xc3\n\xa9\n", [b"\xc3", b"\xa9"], 0),
        (b"a\x00b\x0b\x85\n", [b"a\x00b\x0b\x85"], 0),
        ("\u2028\n".encode(), ["\u2028".encode()], 0),
    ],
)
def test_only_a_newline_ends_a_line(data: bytes, lines: list[bytes], held: int) -> None:
    buffer = LineBuffer(100)
    assert list(buffer.feed(data)) == lines
    assert buffer.held == held


@given(st.lists(st.binary(max_size=6).map(lambda piece: piece.replace(b"\x00", b"\n"))))
def test_any_split_gives_the_same_lines_and_the_same_end(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    expected = fed([whole])
    assert fed(pieces) == expected
    assert fed([bytes([byte]) for byte in whole]) == expected
    if not expected[1]:
        assert expected[0] == whole.split(b"\n")[:-1]


def test_the_limit_is_the_length_of_a_line_without_its_newline() -> None:
    assert fed([b"12345678\n", b"12345678\n"]) == ([b"12345678"] * 2, False)
    assert fed([b"123456789\n"]) == ([], True)
    assert fed([b"12345678", b"9"]) == ([], True)


def test_the_lines_before_one_that_is_too_long_are_given() -> None:
    assert fed([b"one\ntwo\n" + b"x" * 9 + b"\nfour\n"]) == ([b"one", b"two"], True)


def cpu_seconds(size: int) -> float:
    """The time it takes to put together one line that arrives in reads of 4 KiB."""
    buffer = LineBuffer(1 << 30)
    piece = b"x" * 4096
    begun = time.process_time()
    for _ in range(size // len(piece)):
        assert not list(buffer.feed(piece))
    (line,) = buffer.feed(b"\n")
    assert len(line) == size
    return time.process_time() - begun


def test_a_long_line_takes_time_linear_in_its_length() -> None:
    cpu_seconds(1 << 20)
    small = max(cpu_seconds(4 << 20), 0.001)
    # 16 times the bytes; anything that scans or copies again would take 256 times as long.
    assert cpu_seconds(64 << 20) < 80 * small
