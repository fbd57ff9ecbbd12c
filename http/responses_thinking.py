"""OpenAI Responses: the model's thinking as an opaque text that its client hands back.

The service takes thinking back only with its own signature, so both travel in
`encrypted_content`. Neither is secret from the client: it sees the thinking if it asks for it.
"""

import binascii

import msgspec

from maxd.http.responses_items import ReasoningItem
from maxd.workers.turn import Thinking

_decoder = msgspec.json.Decoder(Thinking)


def seal(text: str, signature: str) -> str:
    """The `encrypted_content` of some thinking."""
    sealed = msgspec.json.encode(Thinking(text, signature))
    return binascii.b2a_base64(sealed, newline=False).decode()


def unseal(item: ReasoningItem) -> Thinking | None:
    """The thinking in an item; None where there is none, or it is another service's."""
    if not isinstance(item.encrypted_content, str):
        return None
    try:
        thinking = _decoder.decode(binascii.a2b_base64(item.encrypted_content))
    except (ValueError, msgspec.DecodeError, RecursionError):
        return None
    return None if "\0" in thinking.text or not thinking.signature else thinking
