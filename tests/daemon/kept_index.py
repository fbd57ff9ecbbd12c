"""An index of conversations in a file, and what is kept in it."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from maxd.daemon.conversation import Conversation
from maxd.daemon.index import Index

DAY = 86_400.0
NOW = 1_000 * DAY


def conversation(
    name: str = "a", *, scope: str = "me", last_used: float = NOW, turns: int = 1
) -> Conversation:
    return Conversation(
        id=name,
        scope=scope,
        profile="agent",
        model="sonnet",
        root=b"root",
        head=b"\x00head\xff",
        created=NOW,
        last_used=last_used,
        turns=turns,
    )


@contextmanager
def opened(path: Path, *, now: float = NOW) -> Iterator[Index]:
    index = Index(path, clock=lambda: now)
    try:
        yield index
    finally:
        index.close()


def set_aside(path: Path) -> list[Path]:
    return sorted(
        each
        for each in path.parent.iterdir()
        if each.name.startswith(f"{path.name}.set-aside-") and each.name.endswith("Z")
    )


def kept_with(statement: str) -> Callable[[Path], None]:
    """An index with two conversations, and then that done to it."""

    def make(path: Path) -> None:
        with opened(path) as index:
            index.save(conversation("a"))
            index.save(conversation("b"))
        connection = sqlite3.connect(path)
        connection.executescript(statement)
        connection.close()

    return make
