"""What each turn has to do with the account: may it begin, who goes first, what has it heard."""

from collections.abc import Callable, Iterable

from structlog.typing import FilteringBoundLogger

from maxd.daemon.account import WHOLE_ACCOUNT, Account, Closure, family
from maxd.daemon.first_contact import FirstContact
from maxd.workers.faults import Fault, UsageLimit
from maxd.workers.turn import AccountLimit, Event, RoundStarted

Stop = Callable[[Fault], None]


class AccountGate:
    """Before all turns. `on_closed` is told each window that is newly used up, `on_opened` the same
    when the service has answered a turn that it had refused."""

    def __init__(
        self,
        account: Account | None = None,
        first_contact: FirstContact | None = None,
        log: FilteringBoundLogger | None = None,
        *,
        on_closed: Callable[[Closure], None] = lambda closure: None,
        on_opened: Callable[[Closure], None] = lambda closure: None,
    ) -> None:
        self.account = account or Account()
        self.account.on_closed = self._closed
        self.first_contact = first_contact or FirstContact()
        self.turns: set[TurnAtGate] = set()
        self._log = log
        self._on_closed = on_closed
        self._on_opened = on_opened
        # What was told to be closed, and not yet to be open, by its scope.
        self._shut: dict[str, Closure] = {}

    def check(self, model: str) -> None:
        """Raise UsageLimit when no turn of `model` may begin now."""
        self.account.check(model)

    def begin(self, model: str, stop: Stop) -> "TurnAtGate":
        """A turn begins; `close` must end it. `stop` is called with a fault when it may not go on
        to wait for a worker. Between `check` and this nothing may be awaited."""
        turn = TurnAtGate(self, model, stop)
        self.turns.add(turn)
        self.account.begin(model, turn)
        return turn

    def answered(self, turn: "TurnAtGate") -> None:
        """The service has begun to answer `turn`."""
        self.account.answered(turn)
        self.first_contact.answered(turn)
        if self._shut and self.account.refusal(turn.model) is None:
            for scope in (WHOLE_ACCOUNT, family(turn.model)):
                if (closure := self._shut.pop(scope, None)) is not None:
                    self._on_opened(closure)

    def _closed(self, closure: Closure) -> None:
        if self._log is not None:
            self._log.warning(
                "usage window used up",
                scope=closure.scope or "account",
                window=closure.window,
                resets_at=closure.resets_at,
            )
        self._shut[closure.scope] = closure
        for turn in self.turns:
            if turn.queued and (fault := self.account.refusal(turn.model)) is not None:
                turn.stop(fault)
        self._on_closed(closure)


class TurnAtGate:
    """One turn's way past the gate."""

    def __init__(self, gate: AccountGate, model: str, stop: Stop) -> None:
        self._gate = gate
        self.model = model
        self.stop = stop
        # Whether it still waits for a worker, or for its turn to talk to the service.
        self.queued = True

    async def enter(self) -> None:
        """It has a worker: wait until it may talk to the service. Cancelling loses nothing."""
        await self._gate.first_contact.enter(self)
        self.queued = False

    def hear(self, events: Iterable[Event]) -> None:
        """What its worker has told."""
        for event in events:
            match event:
                case RoundStarted():
                    self._gate.answered(self)
                case AccountLimit():
                    self._gate.account.note(event, self.model)
                case _:
                    pass

    def failed(self, fault: Fault) -> None:
        """What has ended it."""
        if isinstance(fault, UsageLimit) and not self.queued:
            self._gate.account.note_fault(fault, self.model)

    def close(self) -> None:
        """It is over."""
        self._gate.turns.discard(self)
        self._gate.account.left(self)
        self._gate.first_contact.left(self)
