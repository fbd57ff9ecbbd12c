"""How much each API key may use: token buckets, pure. Times are seconds of one monotonic clock."""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from maxd.daemon.keys import ApiKey
from maxd.workers.faults import KeyLimited

MINUTE = 60.0


class Bucket:
    """A minute's worth, refilled evenly. What is taken may be more than there is: what a turn
    costs is known at its end, and is paid back before the next one."""

    def __init__(self, per_minute: int, now: float) -> None:
        self.per_minute = per_minute
        self._level = float(per_minute)
        self._at = now

    def level(self, now: float) -> float:
        """What is left; below zero while more was taken than there was."""
        self._level = min(
            self.per_minute, self._level + (now - self._at) * self.per_minute / MINUTE
        )
        self._at = now
        return self._level

    def take(self, amount: float, now: float) -> None:
        self._level = self.level(now) - amount

    def wait_for(self, amount: float, now: float) -> float:
        """Seconds until `amount` is there; 0 if it is."""
        missing = min(amount, self.per_minute) - self.level(now)
        return max(0.0, missing * MINUTE / self.per_minute)


class Left(NamedTuple):
    """What a client is told of one limit: `limit` a minute, `remaining` of it, full again in
    `reset` seconds."""

    kind: str
    limit: int
    remaining: int
    reset: float


class _Account:
    def __init__(self, key: ApiKey, now: float) -> None:
        self.key = key
        self.running = 0
        self.requests = Bucket(key.requests_per_minute, now) if key.requests_per_minute else None
        self.tokens = Bucket(key.tokens_per_minute, now) if key.tokens_per_minute else None


class Quotas:
    """What each key has used. A key whose limits change begins anew; turns that run still count."""

    def __init__(self) -> None:
        self._accounts: dict[str, _Account] = {}

    def adapt(self, keys: Mapping[str, ApiKey]) -> None:
        """Forget the accounts of keys that are gone."""
        for name in set(self._accounts) - set(keys):
            if not self._accounts[name].running:
                del self._accounts[name]

    def admit(self, name: str, key: ApiKey, now: float) -> None:
        """Count a turn in. Raises KeyLimited, with the seconds to wait, if that is too much."""
        account = self._account(name, key, now)
        if key.max_concurrent and account.running >= key.max_concurrent:
            raise KeyLimited(
                f"this API key may have {key.max_concurrent} turns running at once", retry_after=1.0
            )
        if account.requests and (wait := account.requests.wait_for(1, now)) > 0:
            raise KeyLimited(
                f"this API key may begin {key.requests_per_minute} turns a minute", retry_after=wait
            )
        if account.tokens and (wait := account.tokens.wait_for(1, now)) > 0:
            raise KeyLimited(
                f"this API key may use {key.tokens_per_minute} tokens a minute", retry_after=wait
            )
        if account.requests:
            account.requests.take(1, now)
        account.running += 1

    def finish(self, name: str) -> None:
        """Count a turn out."""
        self._accounts[name].running -= 1

    def charge(self, name: str, tokens: int, now: float) -> None:
        """Count what a turn has cost."""
        account = self._accounts.get(name)
        if account is not None and account.tokens is not None:
            account.tokens.take(tokens, now)

    def left(self, name: str, now: float) -> Iterator[Left]:
        """What this key has left of what it is limited in."""
        account = self._accounts.get(name)
        if account is None:
            return
        for kind, bucket in (("requests", account.requests), ("tokens", account.tokens)):
            if bucket is not None:
                level = bucket.level(now)
                reset = bucket.wait_for(bucket.per_minute, now)
                yield Left(kind, bucket.per_minute, max(0, math.floor(level)), reset)

    def running(self, name: str) -> int:
        """Turns of this key that are running."""
        account = self._accounts.get(name)
        return 0 if account is None else account.running

    def _account(self, name: str, key: ApiKey, now: float) -> _Account:
        account = self._accounts.get(name)
        if account is None or account.key != key:
            running = 0 if account is None else account.running
            account = self._accounts[name] = _Account(key, now)
            account.running = running
        return account
