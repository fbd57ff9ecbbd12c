"""What a worker may do: the answers to the CLI's questions for permission."""

from maxd.workers.functions import PREFIX
from maxd.workers.messages import Allow, ControlBody, Deny
from maxd.workers.profiles import Profile

# They wait for a person at a terminal; behind an API there is none.
NEEDS_A_PERSON = frozenset(("AskUserQuestion", "EnterPlanMode", "ExitPlanMode"))


def decide(profile: Profile, question: ControlBody) -> Allow | Deny:
    """The answer to one `can_use_tool`. Nothing of a request can change it, only the profile."""
    if question.tool_name in NEEDS_A_PERSON:
        return Deny("Nobody is at the terminal. Ask in the text of your answer instead.")
    if question.tool_name.startswith(PREFIX):
        # One of the client's own functions: it is the client that decides.
        return Allow(question.input)
    if profile.tools == "none":
        return Deny(f"The profile {profile.name} has no built-in tools.")
    return Allow(question.input)
