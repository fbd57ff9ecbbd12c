"""Images and files that came as data, in whatever dialect. Nothing is ever fetched."""

import binascii
import re
from typing import Final

from maxd.http.decoding import check_text
from maxd.workers.faults import BadRequest
from maxd.workers.turn import Document, Image

IMAGE_TYPES = frozenset(("image/png", "image/jpeg", "image/gif", "image/webp"))
PDF: Final = "application/pdf"
# What says nothing of the content; it is looked at instead.
_UNTYPED = frozenset(("", "application/octet-stream"))
_TEXT_TYPES = frozenset(("application/json", "application/xml", "application/x-yaml"))
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}", re.ASCII)
# `%PDF-` in base64, whatever follows.
_PDF_BEGINS = "JVBERi0"


def image(url: str, place: str) -> Image:
    """The image in a `data:` URL. Raises BadRequest naming `place`."""
    media_type, data = _split(url, place)
    if media_type not in IMAGE_TYPES:
        raise BadRequest(f"must be one of {', '.join(sorted(IMAGE_TYPES))}", param=place)
    return Image(media_type, data)


def document(data: str, place: str, title: str | None = None) -> Document:
    """The PDF or text in a `data:` URL, or in the bare base64 that some clients send. Raises
    BadRequest naming `place`."""
    media_type = ""
    if data.startswith("data:"):
        media_type, data = _split(data, place)
    else:
        _check_base64(data, place)
    if media_type == PDF or (media_type in _UNTYPED and data.startswith(_PDF_BEGINS)):
        return Document(PDF, data, title)
    if media_type not in _UNTYPED | _TEXT_TYPES and not media_type.startswith("text/"):
        raise BadRequest("must be a PDF or a text", param=place)
    try:
        text = binascii.a2b_base64(data).decode()
    except UnicodeDecodeError:
        raise BadRequest("must be a PDF or a text in UTF-8", param=place) from None
    if not text.strip():
        raise BadRequest("the file is empty", param=place)
    return Document("text/plain", check_text(text, place), title)


def _split(url: str, place: str) -> tuple[str, str]:
    head, comma, data = url.partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        raise BadRequest("only data: URLs with base64 are taken; nothing is fetched", param=place)
    # `data:text/plain;charset=utf-8;base64,`
    media_type = head.removeprefix("data:").removesuffix(";base64").partition(";")[0].lower()
    _check_base64(data, place)
    return media_type, data


def _check_base64(data: str, place: str) -> None:
    if len(data) % 4 or not _BASE64.fullmatch(data):
        raise BadRequest("the data is not base64 with its padding", param=place)
