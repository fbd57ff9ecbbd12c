"""Which spares are too many, which are missing, and who makes room for them."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from maxd.daemon.slots import Key, Limits, Slot, Slots
from maxd.workers.states import State


class Refill(NamedTuple):
    """`surplus` spares are to end; `missing` ones to be started, in this order, as far as there is
    room, for which the idle workers in `victims` are to end."""

    surplus: list[Slot]
    missing: list[Key]
    victims: list[Slot]


def plan_refill(slots: Slots, limits: Limits, wanted: Sequence[Key], allowed: int) -> Refill:
    """Have `limits.spares` of each wanted key and none of the others; `allowed` is how many starts
    may be made now, and no conversation ends for more than those.

    Idle conversations end for spares only up to half of the pool: without spares every new
    conversation waits for a start, without idle workers every turn is an import. A worker that
    can be reset stands in for a spare of its key where there is no room for both.
    """
    left = Counter(dict.fromkeys(wanted, limits.spares))
    surplus = []
    for slot in slots.of(State.SPARE):
        left[slot.key] -= 1
        if left[slot.key] < 0:
            surplus.append(slot)
    left.subtract(slots.starting())
    missing = [key for key in wanted for _ in range(left[key])]
    for slot in slots.of(State.IDLE):
        left[slot.key] -= slot.root is not None
    needed = sum(count for count in left.values() if count > 0)
    have = len(slots.of(State.SPARE, State.STARTING)) - len(surplus)
    coming = limits.max_workers - slots.live() + len(slots.of(State.ENDING)) + len(surplus)
    room = min(needed, limits.max_workers // 2 - have, allowed) - coming
    idle = sorted(slots.of(State.IDLE), key=lambda slot: slot.idle_since)
    return Refill(surplus, missing, idle[: max(0, room)])
