"""A configuration that was read again is put in force: the parts that are running take it over."""

from collections.abc import Callable, Mapping
from pathlib import Path

from maxd.daemon.backend import Backend
from maxd.daemon.catalog import Catalog
from maxd.daemon.config import ConfigError
from maxd.daemon.config_changes import profile_changes
from maxd.daemon.in_force import InForce
from maxd.daemon.limits import limits
from maxd.daemon.pool import Pool
from maxd.daemon.settings import Config
from maxd.workers.cli import find_cli
from maxd.workers.faults import BackendUnavailable
from maxd.workers.profiles import Profile


class Applying:
    """Puts configurations in force that differ from the present one in live settings alone.

    `memory` is what there was for all workers, in bytes, when the daemon started: what they have
    taken by the time of a reload is theirs to have. `environment` is what workers inherit.
    `on_config` is told each configuration that is in force.
    """

    def __init__(
        self,
        in_force: InForce,
        catalog: Catalog,
        backend: Backend,
        pool: Pool,
        *,
        memory: int,
        environment: Mapping[str, str],
        on_config: Callable[[Config], None],
    ) -> None:
        self._in_force = in_force
        self._catalog = catalog
        self._backend = backend
        self._pool = pool
        self._memory = memory
        self._environment = environment
        self._on_config = on_config

    def apply(self, changed: Config) -> None:
        """Put `changed` in force. Raises ConfigError or ModelNotFound before anything has changed,
        but for working directories that have been made."""
        profiles = changed.make_profiles()
        allowed = limits(changed, Catalog(changed.models, profiles), self._memory)
        self._prepare(changed, profiles)
        found = profile_changes(self._catalog.profiles, profiles)
        self._in_force.change(changed, profiles)
        self._catalog.adapt(changed.models, profiles)
        self._backend.configure(changed.cli.path)
        self._pool.adapt(
            allowed,
            freeze_idle=changed.pool.freeze_idle,
            reuse_bytes=changed.pool.reuse_megabytes * 2**20,
            changed=found.changed,
            removed=found.removed,
        )
        self._on_config(changed)

    def _prepare(self, changed: Config, profiles: Mapping[str, Profile]) -> None:
        """See to what `changed` needs of the machine. Raises ConfigError."""
        try:
            if changed.cli.path != self._in_force.config.cli.path:
                find_cli(changed.cli.path, self._environment)
            make_directories(profiles)
        except BackendUnavailable as fault:
            raise ConfigError(fault.message) from None
        except OSError as error:
            raise ConfigError(f"profiles: a directory cannot be made: {error}.") from None


def make_directories(profiles: Mapping[str, Profile]) -> None:
    """Make the working directories that are missing. Raises OSError."""
    for profile in profiles.values():
        Path(profile.directory).mkdir(parents=True, exist_ok=True, mode=0o700)
