"""The index of conversations: an SQLite file, so that they are known after a restart.

It holds what `Conversation` holds, and so nothing that anyone has said.
"""

import sqlite3
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from maxd.daemon.conversation import Conversation
from maxd.daemon.state_file import Damaged, StateFile

NAME: Final = "conversations.sqlite"
"""What the file is called in the state directory."""

Name: TypeAlias = tuple[str, str]
"""A conversation's scope and id."""
Changes: TypeAlias = Mapping[Name, Conversation | None]
"""What is to become of conversations; None is to delete it."""

# How a file of version n becomes one of version n + 1. A field that Conversation gains is one
# more step: ALTER TABLE conversations ADD COLUMN.
_STEPS: Final = (
    """CREATE TABLE conversations (
        scope TEXT NOT NULL,
        id TEXT NOT NULL,
        profile TEXT NOT NULL,
        model TEXT NOT NULL,
        root BLOB NOT NULL,
        head BLOB NOT NULL,
        created REAL NOT NULL,
        last_used REAL NOT NULL,
        turns INTEGER NOT NULL,
        input_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        cost REAL NOT NULL,
        context_tokens INTEGER NOT NULL,
        context_window INTEGER NOT NULL,
        session TEXT,
        session_directory TEXT,
        session_line TEXT,
        PRIMARY KEY (scope, id)
    ) WITHOUT ROWID""",
)
_FIELDS: Final = Conversation.__struct_fields__
_NEWEST_FIRST: Final = "ORDER BY last_used DESC, scope, id"
_SELECT: Final = f"SELECT {', '.join(_FIELDS)} FROM conversations {_NEWEST_FIRST}"
_SAVE: Final = (
    f"INSERT OR REPLACE INTO conversations ({', '.join(_FIELDS)}) "
    f"VALUES ({', '.join('?' * len(_FIELDS))})"
)
_DELETE: Final = "DELETE FROM conversations WHERE scope = ? AND id = ?"
_PRUNE_OLD: Final = "DELETE FROM conversations WHERE last_used < ?"
_PRUNE_MANY: Final = f"""DELETE FROM conversations WHERE (scope, id) IN
    (SELECT scope, id FROM conversations {_NEWEST_FIRST} LIMIT -1 OFFSET ?)"""

# Without this, msgspec takes a text for bytes in base64.
_NATIVE: Final = (bytes,)


class Unstorable(ValueError):
    """A conversation, `name`, has a value that no file can hold. Nothing has been written."""

    def __init__(self, name: Name, reason: str) -> None:
        super().__init__(reason)
        self.name = name


class Index:
    """The index at `path`. Every call blocks; one thread at a time.

    Making one opens the file and reads all of it; `set_aside` is as StateFile says. Raises
    FileUnusable. `clock` gives epoch seconds.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._file = StateFile(path, _STEPS, check=_read, clock=clock)

    @property
    def set_aside(self) -> str | None:
        """Why an earlier file was set aside, if one was."""
        return self._file.set_aside

    def load(self) -> list[Conversation]:
        """All conversations, the one used last first. Raises FileUnusable."""
        with self._file.reading() as connection:
            return _read(connection)

    def save(self, conversation: Conversation) -> None:
        """Keep this state of a conversation. Raises as `apply` does."""
        self.apply({(conversation.scope, conversation.id): conversation})

    def delete(self, scope: str, conversation_id: str) -> None:
        """Forget a conversation, if it is there. Raises as `apply` does."""
        self.apply({(scope, conversation_id): None})

    def apply(self, changes: Changes) -> None:
        """Make all changes or, if it raises, none: Unstorable or FileUnusable."""
        if not changes:
            return
        with self._file.transaction() as execute:
            for name, conversation in changes.items():
                try:
                    if conversation is None:
                        execute(_DELETE, name)
                    else:
                        execute(_SAVE, _row(conversation))
                # What the types allow and SQLite does not: a text with half a surrogate pair (as
                # in a path that is not UTF-8), an integer beyond 64 bits, not-a-number.
                except (
                    UnicodeEncodeError,
                    OverflowError,
                    msgspec.ValidationError,
                    sqlite3.DataError,
                    sqlite3.IntegrityError,
                ) as error:
                    raise Unstorable(name, type(error).__name__) from None

    def prune(self, keep_days: float, keep_count: int) -> int:
        """Forget conversations not used for `keep_days`, and all but the `keep_count` used last.
        Returns how many those were. Raises FileUnusable."""
        with self._file.transaction() as execute:
            oldest = self._clock() - keep_days * 86_400
            return execute(_PRUNE_OLD, (oldest,)).rowcount + (
                execute(_PRUNE_MANY, (keep_count,)).rowcount
            )

    def close(self) -> None:
        """Close the file. Never raises; may be called again."""
        self._file.close()


def _read(connection: sqlite3.Connection) -> list[Conversation]:
    rows = [dict(zip(_FIELDS, row, strict=True)) for row in connection.execute(_SELECT)]
    try:
        return msgspec.convert(rows, list[Conversation], builtin_types=_NATIVE)
    except msgspec.ValidationError as error:
        raise Damaged(str(error)) from None


def _row(conversation: Conversation) -> tuple[object, ...]:
    """The values of the columns. Raises msgspec.ValidationError if `_read` would refuse them: one
    such row would cost the whole index."""
    values = msgspec.structs.asdict(conversation)
    msgspec.convert(values, Conversation, builtin_types=_NATIVE)
    return tuple(values.values())
