"""Replies that clients may come back for: an SQLite file, so that they outlive a restart.

Unlike the index of conversations it holds what was said, both ways, because a client that names
an earlier reply sends nothing else of it. What is deleted is overwritten. What a reply and its
items are is the dialect's business: here they are bytes.
"""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from msgspec import Struct

from maxd.daemon.state_file import StateFile

NAME: Final = "replies.sqlite"
"""What the file is called in the state directory."""

# More text than any model's window holds, and 30 images of the largest size.
MOST_LINE_BYTES: Final = 64 * 2**20

_STEPS: Final = (
    """CREATE TABLE replies (
        scope TEXT NOT NULL,
        id TEXT NOT NULL,
        previous TEXT,
        created REAL NOT NULL,
        used REAL NOT NULL,
        size INTEGER NOT NULL,
        items BLOB NOT NULL,
        body BLOB NOT NULL,
        PRIMARY KEY (scope, id)
    )""",
    "CREATE INDEX replies_by_use ON replies (used, size)",
)
_FIELDS: Final = "scope, id, previous, created, items, body"
_SAVE: Final = (
    f"INSERT OR REPLACE INTO replies ({_FIELDS}, used, size) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_GET: Final = f"SELECT {_FIELDS} FROM replies WHERE scope = ? AND id = ?"
_USE: Final = "UPDATE replies SET used = ? WHERE scope = ? AND id = ?"
_DELETE: Final = "DELETE FROM replies WHERE scope = ? AND id = ?"
_PRUNE_OLD: Final = "DELETE FROM replies WHERE used < ?"
# The replies of one line are used at the same moment; of these the later ones need the earlier.
_NEWEST_FIRST: Final = "ORDER BY used DESC, created, rowid"
_PRUNE_MANY: Final = f"""DELETE FROM replies WHERE rowid IN
    (SELECT rowid FROM replies {_NEWEST_FIRST} LIMIT -1 OFFSET ?)"""
_PRUNE_BIG: Final = f"""DELETE FROM replies WHERE rowid IN
    (SELECT rowid FROM (SELECT rowid, SUM(size) OVER ({_NEWEST_FIRST}) AS total FROM replies)
     WHERE total > ?)"""


class StoredReply(Struct, frozen=True, kw_only=True):
    """A reply and the items it answers. `previous` is the id of the reply that these follow;
    `created` is in epoch seconds."""

    scope: str
    id: str
    previous: str | None
    created: float
    items: bytes
    body: bytes

    @property
    def size(self) -> int:
        """Bytes of what it holds."""
        return len(self.items) + len(self.body)


class Keep(Struct, frozen=True, kw_only=True):
    """How much is kept: days since a reply was last used, replies, bytes."""

    days: float
    count: int
    size: int


class LineTooLong(Exception):
    """A line of replies holds more than `MOST_LINE_BYTES`."""


class ReplyStore:
    """The file at `path`. Every call blocks; one thread at a time. Making one opens it;
    `set_aside` is as StateFile says. All raise FileUnusable. `clock` gives epoch seconds."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._file = StateFile(
            path, _STEPS, pragmas=("auto_vacuum = INCREMENTAL", "secure_delete = ON"), clock=clock
        )

    @property
    def set_aside(self) -> str | None:
        """Why an earlier file was set aside, if one was."""
        return self._file.set_aside

    def save(self, replies: Iterable[StoredReply]) -> None:
        """Keep all of `replies` or, if it raises, none."""
        now = self._clock()
        with self._file.transaction() as execute:
            for reply in replies:
                row = (reply.scope, reply.id, reply.previous, reply.created)
                execute(_SAVE, (*row, reply.items, reply.body, now, reply.size))

    def get(self, scope: str, reply_id: str) -> StoredReply | None:
        with self._file.reading() as connection:
            row = connection.execute(_GET, (scope, reply_id)).fetchone()
        if row is None:
            return None
        scope, reply_id, previous, created, items, body = row
        return StoredReply(
            scope=scope, id=reply_id, previous=previous, created=created, items=items, body=body
        )

    def line(self, scope: str, reply_id: str) -> list[StoredReply]:
        """The reply and those it follows, the newest first, up to the first that is not there; all
        of them count as used now. Raises LineTooLong."""
        found: list[StoredReply] = []
        size = 0
        wanted: str | None = reply_id
        while wanted is not None and (reply := self.get(scope, wanted)) is not None:
            found.append(reply)
            size += reply.size
            if size > MOST_LINE_BYTES:
                raise LineTooLong
            wanted = reply.previous
        now = self._clock()
        with self._file.transaction() as execute:
            for reply in found:
                execute(_USE, (now, scope, reply.id))
        return found

    def delete(self, scope: str, reply_id: str) -> bool:
        """Whether it was there."""
        with self._file.transaction() as execute:
            return execute(_DELETE, (scope, reply_id)).rowcount > 0

    def prune(self, keep: Keep) -> int:
        """Forget what is more than `keep`, the longest unused first, and give the room back.
        Returns how many those were."""
        with self._file.transaction() as execute:
            gone = execute(_PRUNE_OLD, (self._clock() - keep.days * 86_400,)).rowcount
            gone += execute(_PRUNE_MANY, (keep.count,)).rowcount
            gone += execute(_PRUNE_BIG, (keep.size,)).rowcount
        if gone:
            with self._file.reading() as connection:
                # Not `execute`: it frees one page, as the statement has no rows to step through.
                connection.executescript("PRAGMA incremental_vacuum")
        return gone

    def close(self) -> None:
        """Close the file. Never raises; may be called again."""
        self._file.close()
