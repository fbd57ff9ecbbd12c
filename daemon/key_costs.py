"""What each turn has cost goes on the account of its API key."""

import trio

from maxd.daemon.observer import Observer
from maxd.daemon.quotas import Quotas
from maxd.daemon.turn_facts import TurnFacts


class KeyCosts(Observer):
    """Charges the tokens of finished turns, in and out and from the cache."""

    def __init__(self, quotas: Quotas) -> None:
        self._quotas = quotas

    def turn_ended(self, facts: TurnFacts) -> None:
        """A turn has ended, perhaps long after its client went away."""
        if facts.key is None or facts.usage is None:
            return
        used = facts.usage
        cached = used.cache_creation_tokens + used.cache_read_tokens
        tokens = used.input_tokens + cached + used.output_tokens
        self._quotas.charge(facts.key, tokens, trio.current_time())
