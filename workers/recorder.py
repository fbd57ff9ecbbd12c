"""What a conversation's record keeps of its turns, gathered from what the CLI says."""

from typing import TypeVar

import msgspec

from maxd.workers.messages import ModelUsage, Result, ResultUsage
from maxd.workers.profiles import Profile
from maxd.workers.turn import TurnRecord, Usage

T = TypeVar("T")


class Recorder:
    """Listens to one process; `record` is that of its last finished turn."""

    def __init__(self, profile: Profile) -> None:
        self._persists = profile.persists
        self._line: str | None = None
        self._model = ""
        self._round = ResultUsage()
        # The cost that the process has told so far. 2.1.330 does not begin at nothing with a
        # resumed session, but tells the turn's own besides.
        self._total = 0.0
        self.record = TurnRecord()

    def started(self, model: str, usage: msgspec.Raw) -> None:
        """A message of the model has begun."""
        self._model = model
        self._round = _decoded(usage, ResultUsage, ResultUsage())

    def used(self, usage: msgspec.Raw) -> None:
        """The end of the message tells its usage once more: the output, and the rest or not."""
        new, old = _decoded(usage, ResultUsage, ResultUsage()), self._round
        self._round = ResultUsage(
            new.input_tokens or old.input_tokens,
            new.cache_creation_input_tokens or old.cache_creation_input_tokens,
            new.cache_read_input_tokens or old.cache_read_input_tokens,
            new.output_tokens or old.output_tokens,
        )

    def said(self, line: str | None) -> None:
        """A block of the model is whole; `line` is the id of its line in the transcript."""
        self._line = line

    def counted(self, result: Result) -> None:
        """A result that ends no turn: of a message of the history, or of a reset."""
        self._total = _decoded(result.total_cost_usd, float, self._total)

    def finished(self, result: Result) -> None:
        """The turn is over."""
        before, self._total = self._total, _decoded(result.total_cost_usd, float, self._total)
        cost = max(0.0, self._total - before)
        if own := _by_model(result.model_usage_since_last_result):
            cost = sum(usage.cost for usage in own.values())
        tokens = self._round
        self.record = TurnRecord(
            session=(result.session_id or None) if self._persists else None,
            last_line=self._line if self._persists else None,
            cost=cost,
            context_tokens=(tokens.input_tokens or 0)
            + (tokens.cache_creation_input_tokens or 0)
            + (tokens.cache_read_input_tokens or 0)
            + (tokens.output_tokens or 0),
            context_window=_window(_by_model(result.model_usage), self._model),
        )
        self._line = None


def usage_of(result: Result) -> Usage:
    """The tokens of the turn that `result` ends."""
    usage = result.usage or ResultUsage()
    details = usage.output_tokens_details
    return Usage(
        input_tokens=usage.input_tokens or 0,
        cache_creation_tokens=usage.cache_creation_input_tokens or 0,
        cache_read_tokens=usage.cache_read_input_tokens or 0,
        output_tokens=usage.output_tokens or 0,
        thinking_tokens=0 if details is None else details.thinking_tokens,
    )


def _by_model(raw: msgspec.Raw) -> dict[str, ModelUsage]:
    return _decoded(raw, dict[str, ModelUsage], {})


def _window(usages: dict[str, ModelUsage], model: str) -> int:
    """The context window of `model`. The CLI's name of it may have a mark at its end
    (`claude-x[1m]`), or be an alias that lacks the date."""
    for name, usage in usages.items():
        if model and model.startswith(name.partition("[")[0]):
            return usage.context_window
    # A turn without subagents has used one model, whatever it is called.
    return next(iter(usages.values())).context_window if len(usages) == 1 else 0


def _decoded(raw: msgspec.Raw, kind: type[T], default: T) -> T:
    """`raw` as `kind`; `default` where it is of another shape."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.DecodeError:
        return default
