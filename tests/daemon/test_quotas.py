"""How much a key may use, minute by minute."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxd.daemon.keys import ApiKey
from maxd.daemon.quotas import Bucket, Quotas
from maxd.workers.faults import KeyLimited

HASH = "0" * 64


def key(**limits: int) -> ApiKey:
    return ApiKey(hash=HASH, **limits)


def refused(quotas: Quotas, limited: ApiKey, now: float) -> float:
    """After how many seconds it says to come again."""
    with pytest.raises(KeyLimited) as caught:
        quotas.admit("k", limited, now)
    assert caught.value.retry_after is not None
    assert "k" not in caught.value.message.split()
    return caught.value.retry_after


def test_no_limits() -> None:
    quotas = Quotas()
    for _ in range(1000):
        quotas.admit("k", key(), 0)
    assert list(quotas.left("k", 0)) == []
    assert quotas.running("k") == 1000


def test_turns_at_once() -> None:
    quotas, limited = Quotas(), key(max_concurrent=2)
    quotas.admit("k", limited, 0)
    quotas.admit("k", limited, 0)
    assert refused(quotas, limited, 0) == 1.0
    quotas.admit("other", limited, 0)
    quotas.finish("k")
    quotas.admit("k", limited, 1)
    assert quotas.running("k") == 2


def test_turns_a_minute_come_back_evenly() -> None:
    quotas, limited = Quotas(), key(requests_per_minute=6)
    for _ in range(6):
        quotas.admit("k", limited, 100)
    assert refused(quotas, limited, 100) == pytest.approx(10)
    assert refused(quotas, limited, 104) == pytest.approx(6)
    quotas.admit("k", limited, 110)
    (left,) = quotas.left("k", 110)
    assert (left.kind, left.limit, left.remaining) == ("requests", 6, 0)
    assert left.reset == pytest.approx(60)


def test_tokens_are_paid_afterwards() -> None:
    quotas, limited = Quotas(), key(tokens_per_minute=6000)
    quotas.admit("k", limited, 0)
    quotas.charge("k", 9000, 0)
    quotas.charge("unknown", 1, 0)
    quotas.finish("k")
    # 3000 too many, at 100 a second.
    assert refused(quotas, limited, 0) == pytest.approx(30, abs=0.1)
    assert [left.remaining for left in quotas.left("k", 0)] == [0]
    quotas.admit("k", limited, 30.1)


def test_a_limit_that_is_changed_counts_from_then_on() -> None:
    quotas = Quotas()
    quotas.admit("k", key(requests_per_minute=1), 0)
    refused(quotas, key(requests_per_minute=1), 0)
    quotas.admit("k", key(requests_per_minute=2), 0)
    assert quotas.running("k") == 2
    quotas.adapt({})
    quotas.finish("k")
    quotas.finish("k")
    quotas.adapt({})
    assert list(quotas.left("k", 0)) == []


@given(
    st.integers(1, 100),
    st.lists(st.tuples(st.floats(0, 30), st.floats(0.1, 50)), max_size=50),
)
def test_a_bucket_never_holds_more_than_a_minute_and_never_gives_more(
    per_minute: int, takes: list[tuple[float, float]]
) -> None:
    bucket, now, taken = Bucket(per_minute, 0), 0.0, 0.0
    for after, amount in takes:
        now += after
        assert bucket.level(now) <= per_minute
        if bucket.wait_for(amount, now) == 0 and amount <= per_minute:
            bucket.take(amount, now)
            taken += amount
    assert taken <= per_minute * (1 + now / 60) + 1e-6
