"""What the scheduler may do: the settings of the pool, on this machine."""

import os

from maxd.daemon.catalog import Catalog
from maxd.daemon.memory import worker_budget
from maxd.daemon.settings import Config
from maxd.daemon.slots import Key, Limits


def limits(config: Config, catalog: Catalog, memory: int) -> Limits:
    """What the scheduler may do with `memory` bytes for all workers. Raises ModelNotFound for a
    warm id that means nothing."""
    pool = config.pool
    workers = pool.max_workers or worker_budget(memory, pool.memory_fraction)
    return Limits(
        max_workers=workers,
        # Starting takes 0.6 s of CPU; more at once than processors only slow down each other.
        max_starting=max(2, os.cpu_count() or 1),
        spares=pool.spares,
        warm=tuple(Key(*catalog.find(model_id)) for model_id in pool.warm),
        warm_seconds=pool.warm_minutes * 60,
        queue_length=pool.queue_length,
        queue_seconds=pool.queue_seconds,
        reuse_turns=pool.reuse_turns,
        max_parked=pool.max_parked or max(1, workers // 2),
        idle_seconds=config.conversations.idle_minutes * 60,
    )
