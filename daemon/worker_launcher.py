"""With what a worker is started: the CLI, profile, environment and directory of this moment."""

import os
from collections.abc import Mapping

from maxd.daemon.backend import Backend
from maxd.daemon.catalog import Catalog
from maxd.daemon.in_force import InForce
from maxd.daemon.slots import Key
from maxd.workers.launch import Launch
from maxd.workers.policy import Decisions
from maxd.workers.tree import make_environment


class WorkerLauncher:
    """The pool's Launcher.

    `environment` is what workers inherit; `instance` marks their process trees. `decisions` counts
    what the policies of all workers answer.
    """

    def __init__(
        self,
        in_force: InForce,
        catalog: Catalog,
        backend: Backend,
        decisions: Decisions,
        *,
        environment: Mapping[str, str],
        instance: str,
    ) -> None:
        self._in_force = in_force
        self._catalog = catalog
        self._backend = backend
        self._decisions = decisions
        self._environment = environment
        self._instance = instance

    def __call__(self, worker: str, key: Key, session: str | None, /) -> Launch:
        """The launch of `worker`, which is to go on with `session` if that is given."""
        marker = f"{self._instance}/{worker}"
        profile = self._in_force.profiles[key.profile]
        return Launch(
            id=worker,
            cli=os.fspath(self._backend.cli or "claude"),
            profile=profile,
            model=key.model,
            directory=profile.directory,
            environment=make_environment(self._environment, marker),
            marker=marker,
            start_seconds=self._in_force.config.pool.start_timeout_seconds,
            ask_models=self._catalog.wants_models,
            resume=session,
            decisions=self._decisions,
        )
