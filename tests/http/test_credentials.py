"""Who a request comes from, and who it must not be."""

import pytest

from maxd.daemon.keys import ApiKey, KeyRing, hash_of
from maxd.http.credentials import Client, client_of, identify
from maxd.workers.faults import Unauthorized

RING = KeyRing({"laptop": ApiKey(hash=hash_of(b"maxd-right"))})
ANY = KeyRing({})


def headers(*pairs: tuple[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1")) for name, value in pairs]


RIGHT = [
    [("authorization", "Bearer maxd-right")],
    [("authorization", "bearer   maxd-right ")],
    [("authorization", "maxd-right")],
    [("x-api-key", "maxd-right")],
    [("authorization", "Bearer maxd-right"), ("x-api-key", "maxd-right")],
]
WRONG = [
    [],
    [("authorization", "")],
    [("authorization", "Bearer")],
    [("authorization", "Bearer ")],
    [("authorization", "Bearer maxd-wrong")],
    [("authorization", "Bearer maxd-right, Bearer maxd-right")],
    [("authorization", "Bearer maxd-right\xe9")],
    [("authorization", "Bearer m\xe4xd-right")],
    [("authorization", "Basic maxd-right")],
    [("authorization", "Bearer " + hash_of(b"maxd-right"))],
    [("authorization", "Bearer maxd-right")] * 2,
    [("x-api-key", "maxd-right")] * 2,
    [("x-api-key", "")],
    [("x-api-key", "MAXD-RIGHT")],
    [("authorization", "Bearer maxd-right"), ("x-api-key", "maxd-wrong")],
    [("authorization", "Bearer maxd-wrong"), ("x-api-key", "maxd-right")],
    [("cookie", "maxd-right")],
]


@pytest.mark.parametrize("pairs", RIGHT)
def test_it_does_not_matter_which_header_carries_the_key(pairs: list[tuple[str, str]]) -> None:
    client = identify(RING, "/v1/models", headers(*pairs))
    assert client.key == "laptop"
    assert client.scope == identify(ANY, "/v1/models", headers(*pairs)).scope
    assert client.scope == identify(RING, "/", headers(*RIGHT[0])).scope
    assert "right" not in client.scope


@pytest.mark.parametrize("pairs", WRONG)
def test_who_has_no_key_or_two_is_refused(pairs: list[tuple[str, str]]) -> None:
    for path in ("/v1/models", "/nothing", "/healthy", "/health/x", "/status", "/dashboard.js/x"):
        with pytest.raises(Unauthorized) as caught:
            identify(RING, path, headers(*pairs))
        assert caught.value.status == 401
    for path in ("/health", "/v1/health", "//health/", "/", "/dashboard.js"):
        assert identify(RING, path, headers(*pairs)).key is None


@pytest.mark.parametrize("pairs", WRONG)
def test_where_none_is_needed_any_is_taken(pairs: list[tuple[str, str]]) -> None:
    assert identify(ANY, "/v1/models", headers(*pairs)).key is None


def test_clients_are_told_apart() -> None:
    scopes = {identify(ANY, "/", headers(*pairs)).scope for pairs in (RIGHT[0], WRONG[0], WRONG[4])}
    assert len(scopes) == 3


def test_a_request_that_met_no_guard_has_no_key() -> None:
    assert client_of({}).key is None
    assert client_of({"client": Client("s", "laptop")}).key == "laptop"
