"""The CLI's own sessions on disk: where a transcript is, and whether it holds a turn."""

from pathlib import Path

from msgspec import Struct


class Ending(Struct, frozen=True, kw_only=True):
    """What the end of a transcript says.

    `last_assistant` is the message id (`msg_…`) of the last message of the model, `uuid` the id of
    its line. `user_follows`: a message of the user or the result of a tool stands after it, so
    that the turn is not over. `torn`: the file ends within a line.
    """

    last_assistant: str | None = None
    uuid: str | None = None
    user_follows: bool = False
    torn: bool = False


def transcript_path(projects: Path, working_directory: str, session: str) -> Path:
    """The file of the session `session` that was made in `working_directory`."""
    raise NotImplementedError


def ending_of(tail: bytes) -> Ending:
    """What the last bytes of a transcript say; the first line may be incomplete."""
    raise NotImplementedError


def read_ending(path: Path) -> Ending | None:
    """The ending of the transcript at `path`; None if there is none. Blocks for the disk."""
    raise NotImplementedError


async def wait_written(path: Path, message_id: str, deadline: float) -> bool:
    """Wait until the transcript at `path` ends with the model message `message_id` (it is written
    up to 0.3 s after the turn's end). False if it does not at `deadline`, in the time of the trio
    clock. Cancelling does no harm."""
    raise NotImplementedError
