"""The index of conversations: an SQLite file, so that they are known after a restart.

It holds what `Conversation` holds, and so nothing that anyone has said. A commit is in the
operating system's hands: killing the daemon loses none, a power cut may lose the last ones and
nothing else (WAL with synchronous=NORMAL).
"""

import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from maxd.daemon.conversation import Conversation
from maxd.daemon.ledger import StateError

NAME: Final = "conversations.sqlite"
"""What the file is called in the state directory."""

MOST_SET_ASIDE: Final = 3
# The ledger's lock keeps a second daemon away, so only a person with a tool can hold the file.
_BUSY_SECONDS: Final = 0.25

# What SQLite keeps beside the file itself.
_SUFFIXES: Final = ("", "-wal", "-shm", "-journal")

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
# SQLite's words for a file that is at fault, not the disk or the moment.
_DAMAGE: Final = frozenset(
    {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_ERROR}
)
_READ_ERRORS: Final = frozenset({sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ})


class IndexUnusable(StateError):
    """The index cannot be read or written now (a full or read-only disk, a lock, damage). What
    was asked has not been done. The index should be closed and, later, opened again."""


class Unstorable(ValueError):
    """A conversation, `name`, has a value that no file can hold. Nothing has been written."""

    def __init__(self, name: Name, reason: str) -> None:
        super().__init__(reason)
        self.name = name


class _Damaged(Exception):
    """The file is no index of ours, or no longer. Its text is the reason."""


class Index:
    """The file at `path`, readable for the user only. Every call blocks; one thread at a time.

    Making one opens the file and reads all of it. One that is damaged, of another kind or of a
    later version is set aside under a new name and a new one begun; then `set_aside` is why, else
    None. Only the newest `MOST_SET_ASIDE` are kept. Raises IndexUnusable where not even that can
    be done. `clock` gives epoch seconds.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self.set_aside: str | None = None
        try:
            try:
                self._connection = _open(path)
            except _Damaged as damage:
                self._set_aside()
                self.set_aside = str(damage)
                self._connection = _open(path)
            self._opened = _identity(path)
        except (OSError, sqlite3.Error, _Damaged) as error:
            raise IndexUnusable(path, _reason(error)) from None

    def load(self) -> list[Conversation]:
        """All conversations, the one used last first. Raises IndexUnusable."""
        try:
            return _read(self._connection)
        except (sqlite3.Error, _Damaged) as error:
            raise IndexUnusable(self._path, _reason(error)) from None

    def save(self, conversation: Conversation) -> None:
        """Keep this state of a conversation. Raises as `apply` does."""
        self.apply({(conversation.scope, conversation.id): conversation})

    def delete(self, scope: str, conversation_id: str) -> None:
        """Forget a conversation, if it is there. Raises as `apply` does."""
        self.apply({(scope, conversation_id): None})

    def apply(self, changes: Changes) -> None:
        """Make all changes or, if it raises, none: Unstorable or IndexUnusable."""
        if not changes:
            return
        with self._transaction() as execute:
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
        Returns how many those were. Raises IndexUnusable."""
        with self._transaction() as execute:
            oldest = self._clock() - keep_days * 86_400
            return execute(_PRUNE_OLD, (oldest,)).rowcount + (
                execute(_PRUNE_MANY, (keep_count,)).rowcount
            )

    def close(self) -> None:
        """Close the file. Never raises; may be called again."""
        # What fails here is tidying: everything that was told to be written is.
        with suppress(sqlite3.Error):
            self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[Callable[..., sqlite3.Cursor]]:
        connection = self._connection
        # A file that was removed or replaced still takes writes, for nobody.
        if _identity(self._path) != self._opened:
            raise IndexUnusable(self._path, "the file was removed while it was in use")
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection.execute
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise IndexUnusable(self._path, _reason(error)) from None

    def _set_aside(self) -> None:
        """Give the file and what SQLite keeps beside it another name, and delete the oldest."""
        prefix = f"{self._path.name}.set-aside-"
        others = [each for each in self._path.parent.iterdir() if each.name.startswith(prefix)]
        stamp = datetime.fromtimestamp(self._clock(), UTC).strftime("%Y%m%dT%H%M%SZ")
        stamps = {each.name.removeprefix(prefix)[: len(stamp)] for each in others}
        for suffix in _SUFFIXES:
            with suppress(FileNotFoundError):
                _with(self._path, suffix).rename(self._path.with_name(prefix + stamp + suffix))
        kept = sorted({*stamps, stamp})[-MOST_SET_ASIDE:]
        for each in others:
            if not each.name.removeprefix(prefix).startswith(tuple(kept)):
                # What cannot be deleted (a folder) is somebody else's.
                with suppress(OSError):
                    each.unlink()


def _open(path: Path) -> sqlite3.Connection:
    """A connection to an index that can be read as a whole. Raises _Damaged, OSError or
    sqlite3.Error."""
    _prepare(path)
    connection = sqlite3.connect(
        path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        _check(connection)
        # Before it is known to be ours, the file is not changed.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        _migrate(connection)
        _read(connection)
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.Error) and _is_damage(error):
            raise _Damaged(_reason(error)) from None
        raise
    return connection


def _prepare(path: Path) -> None:
    """See to it that `path` is a file of ours, for the user only, and no link."""
    for suffix in _SUFFIXES:
        file = _with(path, suffix)
        try:
            mode = file.lstat().st_mode
            if not stat.S_ISREG(mode):
                raise _Damaged("not a regular file")
            if not path.exists():
                # Replaying another file's log would be worse than losing it.
                file.unlink()
            elif stat.S_IMODE(mode) != 0o600:
                file.chmod(0o600)
        except FileNotFoundError:
            continue
        except PermissionError:
            raise _Damaged("not readable for this user") from None
    try:
        # SQLite gives the files it makes beside this one the same mode.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    except PermissionError:
        raise _Damaged("not readable for this user") from None


def _check(connection: sqlite3.Connection) -> None:
    version = _version(connection)
    if version > len(_STEPS):
        raise _Damaged(f"made by a later version of maxd (schema {version})")
    foreign = connection.execute("SELECT EXISTS (SELECT 1 FROM sqlite_master)").fetchone()[0]
    if version < 0 or (version == 0 and foreign):
        raise _Damaged("a database of another kind")
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise _Damaged(f"damaged: {found}")


def _migrate(connection: sqlite3.Connection) -> None:
    steps = _STEPS[_version(connection) :]
    if steps:
        connection.execute("BEGIN IMMEDIATE")
        for step in steps:
            connection.execute(step)
        connection.execute(f"PRAGMA user_version = {len(_STEPS)}")
        connection.execute("COMMIT")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _read(connection: sqlite3.Connection) -> list[Conversation]:
    rows = [dict(zip(_FIELDS, row, strict=True)) for row in connection.execute(_SELECT)]
    try:
        return msgspec.convert(rows, list[Conversation], builtin_types=_NATIVE)
    except msgspec.ValidationError as error:
        raise _Damaged(str(error)) from None


def _row(conversation: Conversation) -> tuple[object, ...]:
    """The values of the columns. Raises msgspec.ValidationError if `_read` would refuse them: one
    such row would cost the whole index."""
    values = msgspec.structs.asdict(conversation)
    msgspec.convert(values, Conversation, builtin_types=_NATIVE)
    return tuple(values.values())


def _is_damage(error: sqlite3.Error) -> bool:
    """Whether the file is at fault, and not the disk or the moment."""
    # Python's own errors have no code: here, a text that is not UTF-8.
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return code is None or code in _READ_ERRORS or code & 0xFF in _DAMAGE


def _reason(error: BaseException) -> str:
    """What went wrong, in words that hold nothing of a row."""
    match error:
        case OSError():
            return error.strerror or type(error).__name__
        case sqlite3.Error() if getattr(error, "sqlite_errorcode", None) is None:
            return f"damaged ({type(error).__name__})"
        case _:
            return str(error)


def _with(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
