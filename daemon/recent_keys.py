"""The keys that were asked for lately, of which spares are kept."""

from collections.abc import Collection

from maxd.daemon.slots import Key


class RecentKeys:
    """When each key was used last, for at most `most` keys and `seconds` after: clients may make
    up model ids. Times are seconds of one monotonic clock."""

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        # Invariant: the key used last is last.
        self.used: dict[Key, float] = {}

    def use(self, key: Key, now: float) -> None:
        """A request for `key` has come."""
        self.used.pop(key, None)
        self.used[key] = now
        while len(self.used) > self._most:
            del self.used[next(iter(self.used))]

    def forget(self, key: Key) -> None:
        """Nothing can be had from `key`."""
        self.used.pop(key, None)

    def adapt(self, most: int, seconds: float, *, without: Collection[str]) -> None:
        """Other bounds, and no keys of the profiles `without`. Keys beyond `most` are forgotten
        as others come."""
        self._most, self._seconds = most, seconds
        self.used = {key: at for key, at in self.used.items() if key.profile not in without}

    def wanted(self, now: float, warm: tuple[Key, ...]) -> list[Key]:
        """The keys to keep spares of: the most recently used first, then those always kept."""
        self.used = {key: at for key, at in self.used.items() if now < at + self._seconds}
        return list(dict.fromkeys((*reversed(self.used), *warm)))

    def ends(self, now: float) -> list[float]:
        """When a key will no longer be recent."""
        return [end for at in self.used.values() if (end := at + self._seconds) > now]
