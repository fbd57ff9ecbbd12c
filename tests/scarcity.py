"""What a process may run out of."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_file_left() -> Iterator[None]:
    """Within it this process can open nothing: every attempt is EMFILE. What is open stays so."""
    with _at_most(resource.RLIMIT_NOFILE, 0):
        yield


@contextmanager
def no_room() -> Iterator[None]:
    """No file can grow: it stands for the full disk, the same failure of the same calls."""
    with _at_most(resource.RLIMIT_FSIZE, 1):
        yield


@contextmanager
def _at_most(kind: int, count: int) -> Iterator[None]:
    limits = resource.getrlimit(kind)
    resource.setrlimit(kind, (count, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, limits)
