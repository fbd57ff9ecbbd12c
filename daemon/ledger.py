"""The ledger: one daemon at a time for a state directory, and what an earlier one left unswept."""

import fcntl
import os
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

LOCK: Final = "lock"
RECORD: Final = "ledger.json"
SET_ASIDE: Final = "ledger.json.corrupt"

# A daemon that dies again and again before it has swept must not grow the record for ever.
MOST_EARLIER: Final = 16
_MOST_BYTES: Final = 64 * 1024


class StateError(Exception):
    """The state directory cannot be used. `path` is what could not be made, read or written."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path


class InstanceRunning(StateError):
    """Another daemon holds this state directory. `pid` is None if it has not told yet."""

    def __init__(self, path: Path, pid: int | None) -> None:
        super().__init__(path, f"another maxd is running with this state (pid {pid or 'unknown'})")
        self.pid = pid


class Instance(Struct, frozen=True):
    """One run of the daemon. `id` is random and part of its workers' marker; `started_at` is in
    epoch seconds and earlier than the start of any of its workers."""

    id: str
    pid: int
    started_at: float


class _Record(Struct, frozen=True):
    instance: Instance
    earlier: tuple[Instance, ...] = ()


class Ledger:
    """The hold of this daemon on its state directory.

    `instance` is this run. `earlier` are the runs that did not end by `close` and have not been
    swept yet, oldest first; `mark_swept` forgets them. They are kept until then, also through
    further crashes. `set_aside` is where an unreadable record was moved, else None.

    Making one takes the lock and writes the record. Raises `InstanceRunning` if another daemon
    has the lock, `StateError` if the directory or the record cannot be written (a full or
    read-only disk). Nothing waits; the few small reads and writes block.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._record = directory / RECORD
        self.set_aside: Path | None = None
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StateError(directory, _reason(error)) from error
        self._lock: int | None = _take_lock(directory / LOCK)
        try:
            self.earlier = self._read_earlier()
            self.instance = Instance(secrets.token_hex(16), os.getpid(), time.time())
            self._write()
        except BaseException:  # Also what nobody expects; the caller gets it, and the lock is free.
            self._release()
            raise

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def mark_swept(self) -> None:
        """Forget the earlier runs. Raises `StateError` if that cannot be written."""
        self.earlier = ()
        self._write()

    def close(self) -> None:
        """End this run cleanly: no worker of it is left. Never raises; may be called again."""
        if self._lock is None:
            return
        # A record that cannot be removed costs the next start a sweep that finds nothing.
        with suppress(OSError):
            if self.earlier:
                *before, last = self.earlier
                self._replace(_Record(last, tuple(before)))
            else:
                self._record.unlink()
        self._release()

    def _read_earlier(self) -> tuple[Instance, ...]:
        try:
            with open(self._record, "rb", opener=_without_links) as file:
                content = file.read(_MOST_BYTES)
            record = msgspec.json.decode(content, type=_Record)
        except FileNotFoundError:
            return ()
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            self.set_aside = self._directory / SET_ASIDE
            try:
                self._record.replace(self.set_aside)
            except OSError as error:
                raise StateError(self._record, _reason(error)) from error
            return ()
        except OSError as error:
            raise StateError(self._record, _reason(error)) from error
        return (*record.earlier, record.instance)[-MOST_EARLIER:]

    def _write(self) -> None:
        try:
            self._replace(_Record(self.instance, self.earlier))
        except OSError as error:
            raise StateError(self._record, _reason(error)) from error

    def _replace(self, record: _Record) -> None:
        """Write the record so that a reader, also after a crash, finds the old or the new one."""
        new = self._record.with_suffix(".new")
        try:
            with open(new, "wb", opener=_without_links) as file:
                file.write(msgspec.json.encode(record))
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._record)
        except OSError:
            with suppress(OSError):
                new.unlink()
            raise

    def _release(self) -> None:
        # The file stays: removing it would let two daemons lock two files of the same name.
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _take_lock(path: Path) -> int:
    try:
        lock = _without_links(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise StateError(path, _reason(error)) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    except BlockingIOError:
        holder = os.pread(lock, 32, 0).strip()
        os.close(lock)
        raise InstanceRunning(path, int(holder) if holder.isdigit() else None) from None
    except OSError as error:
        os.close(lock)
        raise StateError(path, _reason(error)) from error
    return lock


def _without_links(path: str | Path, flags: int) -> int:
    """Open, readable for the user only, and never through a link that someone has put there."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
