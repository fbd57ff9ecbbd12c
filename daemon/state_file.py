"""SQLite files in the state directory: how one is opened, checked, set aside and written to.

A commit is in the operating system's hands: killing the daemon loses none, a power cut may lose
the last ones and nothing else (WAL with synchronous=NORMAL).
"""

import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from maxd.daemon.ledger import StateError

MOST_SET_ASIDE: Final = 3
# The ledger's lock keeps a second daemon away, so only a person with a tool can hold the file.
_BUSY_SECONDS: Final = 0.25

# What SQLite keeps beside the file itself.
_SUFFIXES: Final = ("", "-wal", "-shm", "-journal")

# SQLite's words for a file that is at fault, not the disk or the moment.
_DAMAGE: Final = frozenset(
    {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_ERROR}
)
_READ_ERRORS: Final = frozenset({sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ})


class FileUnusable(StateError):
    """The file cannot be read or written now (a full or read-only disk, a lock, damage). What
    was asked has not been done. The file should be closed and, later, opened again."""


class Damaged(Exception):
    """The file is none of ours, or no longer. Its text is the reason."""


class StateFile:
    """The file at `path`, readable for the user only. Every call blocks; one thread at a time.

    `steps[n]` is how a file of version n becomes one of version n + 1. Making one opens the file
    and calls `check`, which raises Damaged for what no version of ours has written. A file that is
    damaged, of another kind or of a later version is set aside under a new name and a new one
    begun; then `set_aside` is why, else None. Only the newest `MOST_SET_ASIDE` are kept. Raises
    FileUnusable where not even that can be done. `clock` gives epoch seconds. `pragmas` are set
    before the first table is made.
    """

    def __init__(
        self,
        path: Path,
        steps: Sequence[str],
        *,
        check: Callable[[sqlite3.Connection], object] = lambda connection: None,
        pragmas: Sequence[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._steps = steps
        self._check = check
        self._pragmas = pragmas
        self._clock = clock
        self.set_aside: str | None = None
        try:
            try:
                self._connection = self._open()
            except Damaged as damage:
                self._set_aside()
                self.set_aside = str(damage)
                self._connection = self._open()
            self._opened = _identity(path)
        except (OSError, sqlite3.Error, Damaged) as error:
            raise FileUnusable(path, _reason(error)) from None

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The connection, for statements that change nothing. Raises FileUnusable."""
        try:
            yield self._connection
        except (sqlite3.Error, Damaged) as error:
            raise FileUnusable(self._path, _reason(error)) from None

    @contextmanager
    def transaction(self) -> Iterator[Callable[..., sqlite3.Cursor]]:
        """Execute what is committed at the end of the block, all or nothing. Raises
        FileUnusable."""
        connection = self._connection
        # A file that was removed or replaced still takes writes, for nobody.
        if _identity(self._path) != self._opened:
            raise FileUnusable(self._path, "the file was removed while it was in use")
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection.execute
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise FileUnusable(self._path, _reason(error)) from None

    def close(self) -> None:
        """Close the file. Never raises; may be called again."""
        # What fails here is tidying: everything that was told to be written is.
        with suppress(sqlite3.Error):
            self._connection.close()

    def _open(self) -> sqlite3.Connection:
        """A connection to a file that `check` is content with. Raises Damaged, OSError or
        sqlite3.Error."""
        _prepare(self._path)
        connection = sqlite3.connect(
            self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            _check(connection, len(self._steps))
            # Before it is known to be ours, the file is not changed.
            for pragma in (*self._pragmas, "journal_mode = WAL", "synchronous = NORMAL"):
                connection.execute(f"PRAGMA {pragma}")
            _migrate(connection, self._steps)
            self._check(connection)
        except BaseException as error:
            # Whatever it is, no connection stays open; it goes on, as damage if it is that.
            connection.close()
            if isinstance(error, sqlite3.Error) and _is_damage(error):
                raise Damaged(_reason(error)) from None
            raise
        return connection

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


def _prepare(path: Path) -> None:
    """See to it that `path` is a file of ours, for the user only, and no link."""
    for suffix in _SUFFIXES:
        file = _with(path, suffix)
        try:
            mode = file.lstat().st_mode
            if not stat.S_ISREG(mode):
                raise Damaged("not a regular file")
            if not path.exists():
                # Replaying another file's log would be worse than losing it.
                file.unlink()
            elif stat.S_IMODE(mode) != 0o600:
                file.chmod(0o600)
        except FileNotFoundError:
            continue
        except PermissionError:
            raise Damaged("not readable for this user") from None
    try:
        # SQLite gives the files it makes beside this one the same mode.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    except PermissionError:
        raise Damaged("not readable for this user") from None


def _check(connection: sqlite3.Connection, newest: int) -> None:
    version = _version(connection)
    if version > newest:
        raise Damaged(f"made by a later version of maxd (schema {version})")
    foreign = connection.execute("SELECT EXISTS (SELECT 1 FROM sqlite_master)").fetchone()[0]
    if version < 0 or (version == 0 and foreign):
        raise Damaged("a database of another kind")
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise Damaged(f"damaged: {found}")


def _migrate(connection: sqlite3.Connection, steps: Sequence[str]) -> None:
    missing = steps[_version(connection) :]
    if missing:
        connection.execute("BEGIN IMMEDIATE")
        for step in missing:
            connection.execute(step)
        connection.execute(f"PRAGMA user_version = {len(steps)}")
        connection.execute("COMMIT")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


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
