"""What a client may wish of a reply by headers of maxd's own, in every dialect."""

from collections.abc import Callable, Collection

from msgspec import Struct

from maxd.workers.faults import BadRequest

STRICT = "X-Maxd-Strict"
REASONING = "X-Maxd-Reasoning"
CONVERSATION = "X-Conversation-Id"

_WORDS = {"true": True, "1": True, "false": False, "0": False}


class Wishes(Struct, frozen=True, kw_only=True):
    """`strict`: fields that would be ignored are refused. `thinking`: whether the model's thinking
    is shown; None leaves it to `thinking_profiles`. `partial`: the request names its conversation
    and may bring its new messages alone."""

    strict: bool = False
    thinking: bool | None = None
    thinking_profiles: Collection[str] = ()
    partial: bool = False

    def shows_thinking(self, profile: str) -> bool:
        if self.thinking is None:
            return profile in self.thinking_profiles
        return self.thinking


def wishes(
    header: Callable[[str], str | None], *, strict: bool, thinking_profiles: Collection[str]
) -> Wishes:
    """The wishes in a request's headers, over those of the settings. Raises BadRequest."""
    asked = _switch(STRICT, header(STRICT))
    return Wishes(
        strict=strict if asked is None else asked,
        thinking=_switch(REASONING, header(REASONING)),
        thinking_profiles=thinking_profiles,
        partial=header(CONVERSATION) is not None,
    )


def _switch(name: str, value: str | None) -> bool | None:
    if value is None:
        return None
    switched = _WORDS.get(value.strip().lower())
    if switched is None:
        raise BadRequest(f"{name} must be true or false")
    return switched
