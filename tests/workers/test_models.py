"""Model ids: what is understood, what is refused, what is listed."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxd.workers.faults import ModelNotFound
from maxd.workers.models import CliModel, ModelChoice, offered_models, parse_model

PROFILES = ("agent", "chat")


def parse(model_id: str) -> ModelChoice:
    return parse_model(
        model_id,
        aliases={"gpt-4o-mini": "haiku", "fast": "claude-haiku-4", "long": "sonnet[1m]"},
        profiles=PROFILES,
        default_profile="agent",
        offered=("default", "opus", "fable", "sonnet", "haiku"),
    )


@pytest.mark.parametrize(
    ("model_id", "profile", "word"),
    [
        ("claude-opus-4", "agent", "opus"),
        ("claude-sonnet-4", "agent", "sonnet"),
        ("claude-haiku-4", "agent", "haiku"),
        ("claude-sonnet-4:chat", "chat", "sonnet"),
        ("sonnet", "agent", "sonnet"),
        ("opus:agent", "agent", "opus"),
        ("anthropic/claude-sonnet-4:chat", "chat", "sonnet"),
        ("maxd/Anthropic.v1/haiku", "agent", "haiku"),
        ("fable:chat", "chat", "fable"),
        ("default", "agent", "default"),
        ("gpt-4o-mini:chat", "chat", "haiku"),
        ("fast", "agent", "haiku"),
        ("long", "agent", "sonnet[1m]"),
        ("sonnet[1m]:chat", "chat", "sonnet[1m]"),
        ("claude-sonnet-4[1m]", "agent", "sonnet[1m]"),
        ("claude-opus-4-5-20251101", "agent", "claude-opus-4-5-20251101"),
        ("claude-sonnet-5-5:chat", "chat", "claude-sonnet-5-5"),
        ("claude-3-5-haiku-20241022", "agent", "claude-3-5-haiku-20241022"),
        ("claude-sonnet-4-5@20250929", "agent", "claude-sonnet-4-5@20250929"),
        ("claude-sonnet-5-5[1m]:chat", "chat", "claude-sonnet-5-5[1m]"),
        (
            "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
            "agent",
            "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        ),
        (
            "bedrock/us-gov.anthropic.claude-sonnet-4-5-20250929-v1:0[1m]:chat",
            "chat",
            "us-gov.anthropic.claude-sonnet-4-5-20250929-v1:0[1m]",
        ),
    ],
)
def test_an_id_gives_profile_and_cli_word(model_id: str, profile: str, word: str) -> None:
    assert parse(model_id) == (profile, word)


@pytest.mark.parametrize(
    "model_id",
    [
        "",
        " ",
        "gpt-4o",
        "gpt-4o-mini-2024",
        "claude",
        "claude-",
        "claude--4",
        "Claude-Sonnet-4",
        "sonnet ",
        " sonnet",
        "sonnet\n",
        "sonnet\x00",
        "son\u202enet",
        "sonnet:",
        "sonnet::chat",
        "sonnet:chat:chat",
        "sonnet:root",
        "sonnet:Chat",
        "sonnet:0",
        "claude-sonnet-4:0",
        "/sonnet",
        "a//sonnet",
        "a b/sonnet",
        "anthropic/",
        "-claude-sonnet-4",
        "--dangerously-skip-permissions",
        "anthropic/--model",
        "claude-sonnet-4 --tools=all",
        "claude-sonnet-4=x",
        "../../etc/passwd",
        "fable[2m]",
        "claude-sonnet-٤",
        "\ud800",
        "claude-" + "a" * 122,
        "a/" * 5000,
        "claude-sonnet-4" * 700,
        "a-" * 63 + "!",
    ],
)
def test_everything_else_is_not_found(model_id: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        parse(model_id)
    assert caught.value.param == "model"
    assert caught.value.status == 404
    assert len(caught.value.message) < 400
    assert caught.value.message.isprintable()
    assert "chat" in caught.value.message


def test_the_message_names_what_there_is() -> None:
    with pytest.raises(ModelNotFound, match=r'"gpt-4o".*claude-opus-4.*fable.*fast.*:agent, :chat'):
        parse("gpt-4o")
    with pytest.raises(ModelNotFound, match=r'"opus:root".*Available: agent, chat\.'):
        parse("opus:root")


def test_an_alias_may_not_smuggle_a_word_past_the_pattern() -> None:
    with pytest.raises(ModelNotFound):
        parse_model(
            "evil", aliases={"evil": "--tools=all"}, profiles=PROFILES, default_profile="agent"
        )


@given(st.text(max_size=200))
def test_whatever_is_accepted_can_be_an_argument(model_id: str) -> None:
    try:
        choice = parse(model_id)
    except ModelNotFound:
        return
    assert choice.profile in PROFILES
    assert not choice.cli_model.startswith("-")
    assert choice.cli_model.isascii()
    assert choice.cli_model.isprintable()
    assert " " not in choice.cli_model


# The answer of 2.1.330, shortened to three models and without their unused fields.
LISTED = b"""[
 {"value":"default","resolvedModel":"claude-opus-5-5","displayName":"Default (recommended)"},
 {"value":"opus","resolvedModel":"claude-opus-5-5","displayName":"Opus","supportsEffort":true},
 {"value":"fable","resolvedModel":"claude-fable-5-2","displayName":"Fable"}]"""


def test_the_list_holds_family_alias_and_full_id_with_each_profile() -> None:
    cli_models = msgspec.json.decode(LISTED, type=list[CliModel])
    offered = offered_models(cli_models, profiles=("chat", "agent"), aliases={"gpt-4o": "opus"})
    ids = [model.id for model in offered]
    assert ids[:9] == [
        "claude-opus-4",
        "claude-opus-4:agent",
        "claude-opus-4:chat",
        "opus",
        "opus:agent",
        "opus:chat",
        "claude-opus-5-5",
        "claude-opus-5-5:agent",
        "claude-opus-5-5:chat",
    ]
    bases = [name for name in ids if ":" not in name]
    assert bases[3:] == [
        "claude-sonnet-4",
        "sonnet",
        "claude-haiku-4",
        "haiku",
        "default",
        "fable",
        "claude-fable-5-2",
        "gpt-4o",
    ]
    assert len(set(ids)) == len(ids)
    by_id = {model.id: model for model in offered}
    assert by_id["claude-opus-4:chat"].resolved == "claude-opus-5-5"
    assert by_id["claude-opus-5-5"].display_name == "Opus"
    assert by_id["gpt-4o"].resolved == "claude-opus-5-5"
    assert by_id["sonnet"].resolved is None


def test_every_listed_id_is_understood() -> None:
    cli_models = msgspec.json.decode(LISTED, type=list[CliModel])
    for model in offered_models(cli_models, profiles=PROFILES, aliases={"fast": "haiku"}):
        parse(model.id)


def test_a_cli_that_lists_nothing_offers_the_families() -> None:
    offered = offered_models([], profiles=(), aliases={})
    assert [model.id for model in offered] == [
        "claude-opus-4",
        "opus",
        "claude-sonnet-4",
        "sonnet",
        "claude-haiku-4",
        "haiku",
    ]
    assert {model.resolved for model in offered} == {None}
    assert offered[0].display_name == "Opus"


def test_a_value_that_is_no_model_word_is_not_listed() -> None:
    offered = offered_models([CliModel("--help", "x y")], profiles=(), aliases={})
    assert "--help" not in {model.id for model in offered}
