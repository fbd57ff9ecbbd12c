"""Model ids: what a client may write in `model`, and what is offered to it."""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Final, NamedTuple

from msgspec import Struct

from maxd.workers.faults import ModelNotFound

FAMILIES: Final = ("opus", "sonnet", "haiku")
"""The aliases that every CLI resolves to the family's latest model."""

NAME_PATTERN: Final = r"[a-z0-9][a-z0-9._@-]*(?:-v[0-9]+:[0-9]+)?(?:\[1m\])?"
"""A name as it may reach the CLI: no upper case, no blank, never a leading `-`.

The `:0` of a Bedrock id and the `[1m]` that asks for the long context are part of the name.
"""

# The longest known id (Bedrock, with a region) has 54 characters.
MAX_LENGTH: Final = 128
# How much of a refused id an error may repeat.
MAX_ECHO: Final = 64

_ID = re.compile(
    r"(?:[A-Za-z0-9_.-]+/)*"
    rf"(?P<name>{NAME_PATTERN})"
    r"(?::(?P<profile>[a-z][a-z0-9_-]*))?"
)
_NAME = re.compile(NAME_PATTERN)
_FULL_NAME = re.compile(
    r"(?:(?:[a-z]+(?:-[a-z]+)*\.)?anthropic\.)?"  # Bedrock: us.anthropic., us-gov.anthropic.
    r"claude-[a-z0-9]+(?:[.-][a-z0-9]+)*"
    r"(?:@[a-z0-9]+)?"  # Vertex: @20250929, @latest
    r"(?::[0-9]+)?"  # Bedrock: -v1:0
)
_LONG_CONTEXT = "[1m]"
# A longer id (`claude-sonnet-4-5`) names one model of the family and is not among these.
_FAMILY_OF = {name: family for family in FAMILIES for name in (family, f"claude-{family}-4")}


class ModelChoice(NamedTuple):
    """What a model id asks for: a profile, and the word the CLI is started with."""

    profile: str
    cli_model: str


class CliModel(Struct, frozen=True, rename="camel"):
    """One model of the CLI's `list_models` answer, as far as it is used here."""

    value: str
    resolved_model: str | None = None
    display_name: str | None = None


class OfferedModel(Struct, frozen=True, kw_only=True):
    """A model id as it is listed. `resolved` is the dated id where the CLI has told it."""

    id: str
    resolved: str | None
    display_name: str


def parse_model(
    model_id: str,
    *,
    aliases: Mapping[str, str],
    profiles: Collection[str],
    default_profile: str,
    offered: Collection[str] = (),
) -> ModelChoice:
    """The profile and the CLI's model word of `[provider/]name[:profile]`.

    A name is a configured alias, a family (`sonnet`, `claude-sonnet-4`: the latest of the
    family), a word the CLI itself lists (`offered`), or a full Claude id, which is passed on as
    it is. Raises `ModelNotFound` for anything else; its message names what there is.
    """
    # The length first: the pattern is not run over what cannot be an id.
    match = _ID.fullmatch(model_id) if len(model_id) <= MAX_LENGTH else None
    word = _cli_word(match["name"], aliases, offered) if match else None
    if match is None or word is None:
        raise ModelNotFound(
            f"The model {_echo(model_id)} does not exist here. Available: "
            f"{_listed(_names(aliases, offered))}, or a full Claude model id; "
            f"each may be followed by {_listed(f':{profile}' for profile in sorted(profiles))}.",
            param="model",
        )
    profile = match["profile"] or default_profile
    if profile not in profiles:
        raise ModelNotFound(
            f"The model {_echo(model_id)} asks for a profile that does not exist. "
            f"Available: {_listed(sorted(profiles))}.",
            param="model",
        )
    return ModelChoice(profile, word)


def offered_models(
    cli_models: Iterable[CliModel], *, profiles: Collection[str], aliases: Mapping[str, str]
) -> tuple[OfferedModel, ...]:
    """The ids to list: of each model its family name, its alias and its full id, then the same
    with each profile, then the configured aliases. No id comes twice.

    `cli_models` is empty where the CLI does not know `list_models` (2.1.197 answers with an
    error): then the three families are listed without what they resolve to. The families come
    first and always in the same order, everything else in the order of the CLI.
    """
    known = {family: CliModel(family) for family in FAMILIES}
    known |= {model.value: model for model in cli_models if _NAME.fullmatch(model.value)}
    bases: dict[str, CliModel] = {}
    for model in known.values():
        for name in _names_of(model):
            bases.setdefault(name, model)
    for alias in sorted(aliases):
        if (word := _cli_word(alias, aliases, known)) is not None:
            bases.setdefault(alias, known.get(word, CliModel(word)))
    return tuple(
        OfferedModel(
            id=base + suffix,
            resolved=model.resolved_model,
            display_name=model.display_name or model.value.capitalize(),
        )
        for base, model in bases.items()
        for suffix in ("", *(f":{profile}" for profile in sorted(profiles)))
    )


def _cli_word(name: str, aliases: Mapping[str, str], offered: Collection[str]) -> str | None:
    name = aliases.get(name, name)
    base, long_context = _split(name)
    if base in _FAMILY_OF:
        return _FAMILY_OF[base] + long_context
    known = _FULL_NAME.fullmatch(base) or (name in offered and _NAME.fullmatch(name))
    return name if known else None


def _split(name: str) -> tuple[str, str]:
    base = name.removesuffix(_LONG_CONTEXT)
    return base, name[len(base) :]


def _names_of(model: CliModel) -> Iterable[str]:
    base, long_context = _split(model.value)
    if base in FAMILIES:
        yield f"claude-{base}-4{long_context}"
    yield model.value
    # `default` and an alias may share a resolved id: it belongs to the alias.
    if (
        model.value != "default"
        and model.resolved_model is not None
        and _FULL_NAME.fullmatch(_split(model.resolved_model)[0])
    ):
        yield model.resolved_model


def _names(aliases: Mapping[str, str], offered: Collection[str]) -> Iterable[str]:
    families = [f"claude-{family}-4" for family in FAMILIES]
    return dict.fromkeys([*families, *FAMILIES, *sorted(offered), *sorted(aliases)])


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def _echo(model_id: str) -> str:
    shown = "".join(char for char in model_id[:MAX_ECHO] if char.isprintable())
    return f'"{shown}"'
