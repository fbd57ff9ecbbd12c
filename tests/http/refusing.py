"""What holds of every refusal of a body."""

from collections.abc import Callable

import pytest

from maxd.workers.faults import Fault

CANARY = "CANARY-4711"


def refusal(read: Callable[[], object]) -> Fault:
    """The fault that `read` raises. It tells nothing of what was sent, and is short."""
    with pytest.raises(Fault) as caught:
        read()
    assert caught.value.__cause__ is None
    assert CANARY not in caught.value.message
    assert CANARY not in (caught.value.param or "")
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 300
    return caught.value
