"""How hard the model is to think: what the CLI must be told before a turn."""

from maxd.workers import messages as wire
from maxd.workers.turn import Effort


class EffortSetting:
    """The effort that one process is set to; None is the CLI's own, and stays until a turn asks
    for one."""

    def __init__(self) -> None:
        self.now: Effort | None = None

    def change(self, wanted: Effort | None) -> bytes:
        """The write that sets it as a turn wants it; empty where that is no news. A later turn
        that wants nothing in particular gets what the one before had."""
        before = self.now
        if wanted is None or wanted == before:
            return b""
        self.now = wanted
        level = "low" if wanted == "none" else wanted
        setting = wire.AskLine("effort", wire.ApplyFlagSettings(wire.FlagSettings(level)))
        if "none" not in (before, wanted):
            return wire.encode(setting)
        # 2.1.197 does not think at all then; 2.1.330 no longer has that, and thinks little.
        tokens = 0 if wanted == "none" else None
        return wire.encode(setting, wire.AskLine("thinking", wire.SetMaxThinkingTokens(tokens)))
