"""What the scheduler can do to the world; the pool does it, and tests write it down."""

from typing import Protocol

from maxd.daemon.slots import Key
from maxd.workers.faults import Fault


class Effects(Protocol):
    """What the scheduler can do. None of these may call back into the scheduler."""

    def spawn(self, key: Key, session: str | None) -> str:
        """Start a worker in the background, with the CLI's session to go on with if there is one;
        return its id. It will be ready, or gone."""

    def grant(self, request: str, worker: str, *, continues: bool, resets: bool) -> None:
        """Lease `worker` to the request: a spare, one that `continues` because it holds the
        conversation, or one that `resets`: it holds another that nobody shall see."""

    def refuse(self, request: str, fault: Fault) -> None:
        """End the request unserved."""

    def kill(self, worker: str, reason: str) -> None:
        """Kill the worker's tree in the background. It will be gone, or stuck."""
