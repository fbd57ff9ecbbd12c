"""What a conversation's record keeps of its turns, gathered from what the CLI says."""

from typing import TypeVar

import msgspec
from msgspec.structs import astuple

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
        # Of the turns since the CLI's last result, in which the model's calls had to wait: the
        # result counts their tokens once more.
        self._told = Usage()
        self._since = Usage()
        # Of a result after which the model was asked again, within the turn.
        self._carried = Usage()
        self._carried_cost = 0.0
        self.record = TurnRecord()

    def started(self, model: str, usage: msgspec.Raw) -> Usage:
        """A message of the model has begun. Returns the tokens that were told by then."""
        self._model = model
        self._round = _decoded(usage, ResultUsage, ResultUsage())
        return _usage(self._round)

    def used(self, usage: msgspec.Raw) -> None:
        """The end of the message tells its usage once more: the output, and the rest or not."""
        new, old = _decoded(usage, ResultUsage, ResultUsage()), self._round
        self._round = ResultUsage(
            new.input_tokens or old.input_tokens,
            new.cache_creation_input_tokens or old.cache_creation_input_tokens,
            new.cache_read_input_tokens or old.cache_read_input_tokens,
            new.output_tokens or old.output_tokens,
        )
        self._since = _sum(self._since, _usage(self._round))

    def said(self, line: str | None) -> None:
        """A block of the model is whole; `line` is the id of its line in the transcript."""
        self._line = line

    def counted(self, result: Result) -> None:
        """A result that ends no turn: of a message of the history, or of a reset."""
        self._total = _decoded(result.total_cost_usd, float, self._total)

    def parked(self) -> Usage:
        """The turn is over, and the model waits for the results of its calls. Returns the tokens
        of the turn; what they cost is only told with the CLI's next result."""
        usage = _sum(self._carried, self._since)
        self._told = _sum(self._told, self._since)
        self._since = self._carried = Usage()
        self.record = self._recorded(self._carried_cost, None, {})
        self._carried_cost = 0.0
        return usage

    def carry(self, result: Result) -> None:
        """A result that is none: the model is asked again."""
        self._carried = self._rest(result)
        self._carried_cost = self._cost(result)

    def finished(self, result: Result) -> Usage:
        """The turn is over. Returns its tokens."""
        cost = self._carried_cost + self._cost(result)
        self._carried_cost = 0.0
        self.record = self._recorded(cost, result, _by_model(result.model_usage))
        self._line = None
        usage = _sum(self._carried, self._rest(result))
        self._carried = Usage()
        return usage

    def _cost(self, result: Result) -> float:
        """What was spent since the result before."""
        before, self._total = self._total, _decoded(result.total_cost_usd, float, self._total)
        if own := _by_model(result.model_usage_since_last_result):
            return sum(usage.cost for usage in own.values())
        return max(0.0, self._total - before)

    def _rest(self, result: Result) -> Usage:
        """The tokens that the result counts and nobody was told of yet."""
        rest = _difference(usage_of(result), self._told)
        self._told = self._since = Usage()
        return rest

    def _recorded(
        self, cost: float, result: Result | None, usages: dict[str, ModelUsage]
    ) -> TurnRecord:
        persists = self._persists and result is not None
        tokens = _usage(self._round)
        return TurnRecord(
            session=(result.session_id or None) if persists and result is not None else None,
            last_line=self._line if persists else None,
            cost=cost,
            context_tokens=tokens.input_tokens
            + tokens.cache_creation_tokens
            + tokens.cache_read_tokens
            + tokens.output_tokens,
            context_window=_window(usages, self._model),
        )


def usage_of(result: Result) -> Usage:
    """The tokens of the turns that `result` ends."""
    return _usage(result.usage or ResultUsage())


def _usage(usage: ResultUsage) -> Usage:
    details = usage.output_tokens_details
    return Usage(
        input_tokens=usage.input_tokens or 0,
        cache_creation_tokens=usage.cache_creation_input_tokens or 0,
        cache_read_tokens=usage.cache_read_input_tokens or 0,
        output_tokens=usage.output_tokens or 0,
        thinking_tokens=0 if details is None else details.thinking_tokens,
    )


def _sum(one: Usage, other: Usage) -> Usage:
    return Usage(*map(sum, zip(astuple(one), astuple(other), strict=True)))


def _difference(whole: Usage, part: Usage) -> Usage:
    pairs = zip(astuple(whole), astuple(part), strict=True)
    return Usage(*(max(0, have - told) for have, told in pairs))


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
