"""A bound on how many names are counted apart."""

from typing import Final

OTHER: Final = "other"


class Labels:
    """Keeps the first `most` names it is shown apart and calls every later one `other`: some come
    from clients, and each costs memory for ever."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: set[str] = set()

    def of(self, name: str) -> str:
        """`name`, or `other`."""
        if name not in self._known:
            if len(self._known) >= self._most:
                return OTHER
            self._known.add(name)
        return name
