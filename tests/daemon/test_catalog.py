"""What models can be asked for, and when the CLI is asked which it has."""

import msgspec
import pytest

from maxd.daemon.catalog import Catalog
from maxd.workers.faults import ModelNotFound
from maxd.workers.protocol import Models
from maxd.workers.worker import Readiness

LISTED = b"""{"models": [
    {"value": "default", "resolvedModel": "claude-opus-4-8"},
    {"value": "sonnet", "resolvedModel": "claude-sonnet-4-7", "displayName": "Sonnet"}
]}"""


def readiness(listed: bytes | None, version: str = "2.1.330") -> Readiness:
    return Readiness(version, Models(None if listed is None else msgspec.Raw(listed)))


def offered(catalog: Catalog) -> set[str]:
    return {model.id for model in catalog.offered()}


def test_the_families_are_offered_before_any_worker_is_ready() -> None:
    catalog = Catalog({})
    assert catalog.wants_models
    assert {"sonnet", "claude-sonnet-4", "opus:chat", "haiku:agent"} <= offered(catalog)
    assert catalog.find("claude-opus-4:chat") == ("chat", "opus")


def test_what_the_cli_lists_is_offered_and_found() -> None:
    catalog = Catalog({})
    with pytest.raises(ModelNotFound):
        catalog.find("default")
    catalog.note(readiness(LISTED))
    assert not catalog.wants_models
    assert {"default", "claude-sonnet-4-7"} <= offered(catalog)
    assert catalog.find("default") == ("agent", "default")


def test_aliases_of_the_configuration_are_offered_and_found() -> None:
    catalog = Catalog({"gpt-4o": "sonnet"})
    assert "gpt-4o" in offered(catalog)
    assert catalog.find("gpt-4o:chat") == ("chat", "sonnet")


def test_a_cli_that_knows_no_list_is_not_asked_again() -> None:
    catalog = Catalog({})
    catalog.note(readiness(None, version="2.1.197"))
    assert not catalog.wants_models
    assert "sonnet" in offered(catalog)


@pytest.mark.parametrize(
    "listed",
    [
        b"null",
        b"[]",
        b'{"models": 1}',
        b'{"models": [{"name": "sonnet"}]}',
        b'{"models": [{"value": "\xff"}]}',
        b'{"more": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b"{",
    ],
)
def test_an_answer_of_another_form_costs_only_the_details(listed: bytes) -> None:
    catalog = Catalog({})
    catalog.note(readiness(listed))
    assert not catalog.wants_models
    assert "sonnet" in offered(catalog)


def test_another_version_of_the_cli_is_asked_anew() -> None:
    catalog = Catalog({})
    catalog.note(readiness(LISTED))
    catalog.note(Readiness("2.1.330", None))
    assert not catalog.wants_models
    catalog.note(Readiness("2.1.331", None))
    assert catalog.wants_models
    assert "default" not in offered(catalog)
    catalog.note(readiness(LISTED, version="2.1.331"))
    assert not catalog.wants_models


def test_what_it_does_not_know_is_refused_by_name() -> None:
    with pytest.raises(ModelNotFound, match="gpt-4o") as caught:
        Catalog({}).find("gpt-4o")
    assert caught.value.param == "model"
