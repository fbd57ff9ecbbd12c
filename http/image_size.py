"""How large a base64 image is in pixels, read from its first bytes."""

import struct
from base64 import b64decode

# Where JPEG keeps its size: after any number of other segments, a profile of 64 kB among them.
_HEAD = 4 * 64 * 1024


def image_size(data: str) -> tuple[int, int] | None:
    """Width and height; None where they are not found. `data` is valid base64."""
    head = b64decode(data[:_HEAD])
    try:
        if head.startswith(b"\x89PNG"):
            return _unpacked(">II", head, 16)
        if head.startswith(b"GIF8"):
            return _unpacked("<HH", head, 6)
        if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
            return _webp(head)
        if head.startswith(b"\xff\xd8"):
            return _jpeg(head)
    except struct.error:
        pass  # It ends before its size.
    return None


def _unpacked(form: str, head: bytes, offset: int) -> tuple[int, int]:
    width, height = struct.unpack_from(form, head, offset)
    return width, height


def _webp(head: bytes) -> tuple[int, int] | None:
    match head[12:16]:
        case b"VP8 ":
            width, height = _unpacked("<HH", head, 26)
            return width & 0x3FFF, height & 0x3FFF
        case b"VP8L":
            (bits,) = struct.unpack_from("<I", head, 21)
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8X":
            return (
                int.from_bytes(head[24:27], "little") + 1,
                int.from_bytes(head[27:30], "little") + 1,
            )
        case _:
            return None


def _jpeg(head: bytes) -> tuple[int, int] | None:
    at = 2
    while True:
        mark, kind, length = struct.unpack_from(">BBH", head, at)
        if mark != 0xFF:
            return None
        # Start of frame, whatever the coding; C4, C8 and CC are tables.
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            height, width = _unpacked(">HH", head, at + 5)
            return width, height
        at += 2 + length
