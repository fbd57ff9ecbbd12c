"""What the fake CLI says, in the shapes of the real one."""

from __future__ import annotations

import os
import time

from tests.fakes.fake_cli_pipes import Faults
from tests.fakes.fake_cli_sessions import new_uuid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SESSION = "00000000-0000-4000-8000-000000000001"
USAGE_NAMES = (
    "input_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "output_tokens",
)


class Speech(Faults):
    """Its messages. Every id in them is new."""

    def __init__(self, settings: dict[str, str], model: str) -> None:
        super().__init__(settings)
        self.model = model
        self.history: list[tuple[str, list[Any]]] = []
        self.session = SESSION
        # The ids of the last `assistant` message, and of its line in the transcript.
        self.said = ("", "")
        self.cost = 0.0
        self.ids = 0
        self.tokens = 0

    def event(self, kind: str, **data: Any) -> None:
        event = {"type": kind, **data}
        line: dict[str, Any] = {"type": "stream_event", "event": event, "session_id": self.session}
        self.say(line | {"parent_tool_use_id": None})

    def assistant(
        self, message_id: str, model: str, content: list[Any], stop_reason: str | None = None
    ) -> None:
        message: dict[str, Any] = {
            "id": message_id,
            "type": "message",
            "role": "assistant",
            "model": model,
        }
        message |= {"content": content, "stop_reason": stop_reason}
        self.said = (message_id, new_uuid())
        line = {"type": "assistant", "message": message, "parent_tool_use_id": None}
        self.say(line | {"uuid": self.said[1], "session_id": self.session})

    def result(
        self,
        *,
        is_error: bool = False,
        turns: int = 1,
        text: str = "",
        reason: str | None = None,
        status: int | None = None,
        why: str | None = None,
    ) -> None:
        usage: dict[str, Any] = dict.fromkeys(USAGE_NAMES, 0)
        thinking = 0
        if turns and not is_error:
            *counts, thinking = self.usage()
            usage = dict(zip(USAGE_NAMES, counts, strict=True))
            self.cost += sum(counts) / 1e6
        self.say(
            {
                "type": "result",
                "subtype": "success",
                "is_error": is_error,
                "num_turns": turns,
                "result": text,
                "stop_reason": reason,
                "terminal_reason": why,
                "api_error_status": status,
                "usage": usage | {"output_tokens_details": {"thinking_tokens": thinking}},
                "session_id": self.session,
                "total_cost_usd": self.cost,
                "modelUsage": {self.model: {"costUSD": self.cost, "contextWindow": 200_000}},
            }
        )

    def usage(self) -> list[int]:
        if given := self.settings.get("usage"):
            return [int(count) for count in given.split(",")]
        return [len(self.history), 0, 0, self.tokens, 0]

    def new_id(self, prefix: str) -> str:
        self.ids += 1
        return f"{prefix}_fake{os.getpid()}x{self.ids}"

    def block(self, index: int, block: dict[str, Any]) -> None:
        self.event("content_block_start", index=index, content_block=block)

    def delta(self, index: int, delta: dict[str, Any]) -> None:
        self.event("content_block_delta", index=index, delta=delta)

    def api_retry(self, status: int | None, error: str) -> None:
        line: dict[str, Any] = {
            "type": "system",
            "subtype": "api_retry",
            "attempt": 1,
            "max_retries": 1,
        }
        self.say(line | {"retry_delay_ms": 518.25, "error_status": status, "error": error})

    def window(self, status: str, utilization: float) -> None:
        info: dict[str, Any] = {"status": status, "resetsAt": int(time.time()) + 3600}
        info |= {"rateLimitType": "five_hour", "utilization": utilization}
        self.say({"type": "rate_limit_event", "rate_limit_info": info})
