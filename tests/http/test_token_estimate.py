"""The estimate of a turn's tokens, and the sizes of images."""

import struct
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxd.http.image_size import image_size
from maxd.http.token_estimate import MOST_IMAGE_TOKENS, PAGE_TOKENS, TOOLS_TOKENS, estimate
from maxd.workers.turn import (
    Document,
    Function,
    Image,
    Message,
    Part,
    Text,
    ToolCall,
    ToolResult,
    Turn,
)


def tokens(*parts: Part, system: tuple[str, ...] = (), functions: int = 0) -> int:
    return estimate(
        Turn(
            profile="chat",
            model="sonnet",
            messages=(Message("user", parts),),
            system=system,
            functions=(Function("f", "d" * 350, "{}"),) * functions,
        )
    )


def png(width: int, height: int) -> str:
    head = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", width, height)
    return b64encode(head + bytes(100)).decode()


def test_text() -> None:
    assert 950 <= tokens(Text("four" * 900)) <= 1100
    # A language whose letters are whole words.
    assert tokens(Text("\u6c34" * 100)) >= 100
    assert tokens(Text("a"), system=("x" * 3500,)) >= 1000
    assert tokens(Text("a"), functions=1) >= TOOLS_TOKENS + 100


def test_calls_and_results_count() -> None:
    assert tokens(ToolCall("c", "f", "x" * 3500)) > 1000
    assert tokens(ToolResult("c", (Text("x" * 3500),))) > 1000
    assert tokens(Document("text/plain", "x" * 3500)) > 1000


def test_images_count_by_their_pixels() -> None:
    assert 160 <= tokens(Image("image/png", png(350, 350))) <= 175
    assert tokens(Image("image/png", png(10_000, 10_000))) <= MOST_IMAGE_TOKENS + 10
    assert tokens(Image("image/png", b64encode(b"unknown!!").decode())) >= MOST_IMAGE_TOKENS


def test_documents_count_by_their_pages() -> None:
    pages = b"%PDF-1.4 /Type /Pages " + b"<< /Type /Page >>" * 3
    data = b64encode(pages).decode()
    assert 3 * PAGE_TOKENS <= tokens(Document("application/pdf", data)) < 4 * PAGE_TOKENS
    packed = b64encode(b"%PDF-1.4" + bytes(120_000)).decode()
    assert tokens(Document("application/pdf", packed)) >= 2 * PAGE_TOKENS


@given(st.text(), st.text())
def test_more_text_is_never_fewer_tokens(one: str, other: str) -> None:
    assert 1 <= tokens(Text(one)) <= tokens(Text(one + other))


def jpeg(width: int, height: int) -> bytes:
    profile = b"\xff\xe2" + struct.pack(">H", 60_000) + bytes(59_998)
    frame = b"\xff\xc2" + struct.pack(">HBHH", 17, 8, height, width) + bytes(12)
    return b"\xff\xd8" + profile + frame


@pytest.mark.parametrize(
    "data",
    [
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", 640, 480),
        b"GIF89a" + struct.pack("<HH", 640, 480),
        jpeg(640, 480),
        b"RIFF....WEBPVP8X" + bytes(8) + (639).to_bytes(3, "little") + (479).to_bytes(3, "little"),
        b"RIFF....WEBPVP8L" + bytes(5) + struct.pack("<I", 639 | 479 << 14),
        b"RIFF....WEBPVP8 " + bytes(10) + struct.pack("<HH", 640, 480),
    ],
    ids=["png", "gif", "jpeg", "webp extended", "webp lossless", "webp"],
)
def test_sizes(data: bytes) -> None:
    assert image_size(b64encode(data).decode()) == (640, 480)


@given(
    st.sampled_from([b"\x89PNG", b"GIF89a", b"\xff\xd8\xff", b"RIFF....WEBPVP8X", b""]), st.binary()
)
def test_any_bytes_have_a_size_or_none(head: bytes, rest: bytes) -> None:
    size = image_size(b64encode(head + rest).decode())
    assert size is None or len(size) == 2
