"""The configuration that is in force: that of the start, until a reload brings another."""

from collections.abc import Mapping

from maxd.daemon.settings import Config
from maxd.workers.profiles import Profile


class InForce:
    """What is configured now, read by all parts that look at a setting whenever it matters.

    `profiles` are those of `config`, and those that a reload has removed: workers and
    conversations may still be of these. `directories` are the working directories of all of them.
    Both mappings stay the same objects for the life of the daemon.
    """

    def __init__(self, config: Config, profiles: Mapping[str, Profile]) -> None:
        self.config = config
        self.profiles: dict[str, Profile] = {}
        self.directories: dict[str, str] = {}
        self.change(config, profiles)

    def change(self, config: Config, profiles: Mapping[str, Profile]) -> None:
        """From now on this is in force; `profiles` are the configured ones."""
        self.config = config
        self.profiles.update(profiles)
        self.directories.update({name: profile.directory for name, profile in profiles.items()})
