"""Which conversations the CLI's sessions on disk hold, to the last message."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import trio
from structlog.typing import FilteringBoundLogger

from maxd.daemon.conversation import Conversation
from maxd.workers.faults import SessionLost
from maxd.workers.sessions import check_resumable, transcript_path, wait_written
from maxd.workers.turn import TurnRecord

# A transcript is written up to 0.3 s after the end of a turn; on a loaded machine later.
WRITTEN_SECONDS = 5.0


class Transcripts:
    """Looks at the CLI's transcripts of conversations, and never at what they say.

    `directories` are the working directories by profile, `projects` tells where the CLI keeps its
    transcripts, None while that is not known. `on_change` is told a conversation that can be
    resumed from now on. `lost` counts sessions that could not be used when they were needed.
    """

    def __init__(
        self,
        directories: Mapping[str, str],
        projects: Callable[[], Path | None],
        on_change: Callable[[Conversation], None],
        log: FilteringBoundLogger,
    ) -> None:
        self._directories = directories
        self._projects = projects
        self._on_change = on_change
        self._log = log
        self.lost = 0
        self._tell, self._told = trio.open_memory_channel[tuple[Conversation, TurnRecord]](math.inf)

    def confirm_nowait(self, conversation: Conversation, record: TurnRecord) -> None:
        """A turn has finished: when its session is on disk, the conversation may be resumed."""
        if record.session is not None and record.last_line is not None:
            self._tell.send_nowait((conversation, record))

    async def run(self) -> None:
        """Confirm sessions until cancelled."""
        async with trio.open_nursery() as nursery:
            async for conversation, record in self._told:
                nursery.start_soon(self._confirm, conversation, record, conversation.head)

    async def holds(self, conversation: Conversation) -> bool:
        """Whether the conversation's session ends with its last reply, so that resuming it goes on
        from exactly there. False, logged and counted, for one that is missing, torn, of another
        directory, or has gone on: then its client's history is imported."""
        path = self._path(conversation, conversation.session)
        try:
            if path is None or conversation.session_directory != self._directory(conversation):
                raise SessionLost("the session belongs to another directory")
            await check_resumable(path, conversation.session_line or "")
        except SessionLost as lost:
            self.lost += 1
            self._log.warning(
                "session cannot be resumed", conversation=conversation.id, reason=lost.message
            )
            return False
        return True

    async def _confirm(self, conversation: Conversation, record: TurnRecord, head: bytes) -> None:
        path = self._path(conversation, record.session)
        if path is None or record.last_line is None:
            return
        deadline = trio.current_time() + WRITTEN_SECONDS
        written = await wait_written(path, record.last_line, deadline)
        if not written:
            self._log.warning("transcript was not written", conversation=conversation.id)
        elif conversation.head == head:
            conversation.session = record.session
            conversation.session_line = record.last_line
            conversation.session_directory = self._directory(conversation)
            self._on_change(conversation)
            self._log.debug("session confirmed", conversation=conversation.id)

    def _directory(self, conversation: Conversation) -> str | None:
        return self._directories.get(conversation.profile)

    def _path(self, conversation: Conversation, session: str | None) -> Path | None:
        projects, directory = self._projects(), self._directory(conversation)
        if projects is None or session is None or directory is None:
            return None
        return transcript_path(projects, directory, session)
