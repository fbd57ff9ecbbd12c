"""What each turn has cost goes on the account of its API key."""

import trio

from maxd.daemon.observer import Observer
from maxd.daemon.quotas import Quotas
from maxd.daemon.turn_facts import TurnFacts


class KeyCosts(Observer):
    """Charges the tokens of turns, in and out and from the cache. A turn that was given up, or cut
    at a stop text, has cost them as well: it would be a way around the limit."""

    def __init__(self, quotas: Quotas) -> None:
        self._quotas = quotas

    def turn_ended(self, facts: TurnFacts) -> None:
        """A turn has ended, perhaps long after its client went away."""
        if facts.key is not None:
            self._quotas.charge(facts.key, facts.tokens, trio.current_time())
