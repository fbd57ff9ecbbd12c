"""What the present CLI can do, as far as the probes have shown: pure.

Where nothing was shown to the contrary it is taken to be able: a probe runs after the start, and
what it could not find out is no reason to refuse what may work.
"""

from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from maxd.workers.faults import NotSupported
from maxd.workers.features import Finding
from maxd.workers.functions import called_in
from maxd.workers.turn import Turn

BASIC: Final = "bind"
"""The probe without which no other tells anything: where not even a plain question is answered,
the probes themselves may be what cannot work here."""

_SEE: Final = "`maxd doctor` says why"


class Abilities(Struct, frozen=True):
    """What turns may use. `history`: a history can be imported. `functions`: a client's functions
    can be served. `schema`: an answer can be bound to one. `resume`: a session on disk can be gone
    on with."""

    history: bool = True
    functions: bool = True
    schema: bool = True
    resume: bool = True

    def check(self, turn: Turn) -> None:
        """Raise NotSupported if `turn` needs what cannot be had, whichever worker it gets."""
        if not self.functions and (turn.functions or called_in(turn.messages)):
            raise NotSupported(
                f"the installed claude CLI cannot be given functions (tools); {_SEE}",
                param="tools",
            )
        if not self.schema and turn.schema is not None:
            raise NotSupported(
                f"the installed claude CLI cannot answer in the form of a JSON schema; {_SEE}"
            )


def abilities(findings: Iterable[Finding] | None) -> Abilities:
    """What follows from the probes of the present CLI; None: they have not run yet."""
    failed = {finding.name for finding in findings or () if not finding.passed}
    if BASIC in failed:
        failed = set()
    return Abilities(
        history="history" not in failed,
        functions="functions" not in failed,
        schema="schema" not in failed,
        resume="resume" not in failed,
    )


def no_history() -> NotSupported:
    """The refusal of a history that no live worker holds, where none can be imported."""
    return NotSupported(
        "the installed claude CLI cannot be given a history, and no worker that holds this one is "
        f"left; {_SEE}"
    )
