"""What the tests of the Messages API ask with Anthropic's SDK, and what they look up."""

from typing import TYPE_CHECKING, Any

from tests.end_to_end.running import DaemonProcess

if TYPE_CHECKING:
    from anthropic.types import MessageParam

CHAT = "claude-sonnet-4:chat"


def ask(text: str) -> "list[MessageParam]":
    return [{"role": "user", "content": text}]


def turns(daemon: DaemonProcess, conversation: str | None) -> list[dict[str, Any]]:
    """The log's entries of the turns of a conversation."""
    return [
        entry
        for entry in daemon.log
        if entry["event"] == "turn" and entry["conversation"] == conversation
    ]
