"""The models that can be asked for: what the CLI offers, and what each id means."""

from collections.abc import Mapping

import msgspec
from msgspec import Struct

from maxd.workers.models import CliModel, ModelChoice, OfferedModel, offered_models, parse_model
from maxd.workers.profiles import BUILT_IN, DEFAULT, Profile
from maxd.workers.worker import Readiness


class _Listed(Struct):
    models: tuple[CliModel, ...] = ()


class Catalog:
    """Model ids and their meaning. `aliases` and `profiles` are the configured ones."""

    def __init__(
        self, aliases: Mapping[str, str], profiles: Mapping[str, Profile] = BUILT_IN
    ) -> None:
        self._aliases = aliases
        self.profiles = profiles
        self._version: str | None = None
        self._listed: tuple[CliModel, ...] | None = None

    def adapt(self, aliases: Mapping[str, str], profiles: Mapping[str, Profile]) -> None:
        """Other aliases and profiles are configured."""
        self._aliases, self.profiles = aliases, profiles

    @property
    def wants_models(self) -> bool:
        """Whether the next worker is to be asked what the CLI offers."""
        return self._listed is None

    def note(self, readiness: Readiness) -> None:
        """A worker has become ready. One of another CLI version makes the list outdated."""
        if readiness.version != self._version:
            self._version = readiness.version
            self._listed = None
        if readiness.models is not None:
            listed = readiness.models.listed
            try:
                self._listed = (
                    () if listed is None else msgspec.json.decode(listed, type=_Listed).models
                )
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                # An answer of another form: the families are offered without details.
                self._listed = ()

    def find(self, model_id: str) -> ModelChoice:
        """What `model_id` means. Raises ModelNotFound."""
        return parse_model(
            model_id,
            aliases=self._aliases,
            profiles=self.profiles,
            default_profile=DEFAULT,
            offered=[model.value for model in self._listed or ()],
        )

    def offered(self) -> tuple[OfferedModel, ...]:
        """The ids to list."""
        return offered_models(self._listed or (), profiles=self.profiles, aliases=self._aliases)
