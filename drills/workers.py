"""Faults of one worker or its keeper, at every step of its life."""

import signal
from typing import Any, Final

import openai

from drills.drill import Drill
from drills.outcome import Outcome
from drills.site import MODEL, Site
from tests.end_to_end.running import directive

TOLD: Final = "the turn, with an error that says so"
BESIDE: Final = "the turn beside it"
FUNCTION: Final = {
    "type": "function",
    "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}},
}


def kill_spare(site: Site, outcome: Outcome) -> None:
    spare = site.spare()
    site.doom(spare)
    spare.kill()
    outcome.survives("the next turn", site.ask(text="next") == "next")


def kill_before_first_token(site: Site, outcome: Outcome) -> None:
    site.model.forget()
    answer = site.asking(text="late", delay=3)
    site.wait(site.model.requests, "the model was not asked")
    worker = site.worker("leased")
    site.doom(worker)
    worker.kill()
    try:
        text = answer.result()
    except openai.APIError as error:
        outcome.survives("the turn, tried again unseen", False, error.code)
    else:
        again = text == "late" and len(site.model.requests()) == 2
        outcome.survives("the turn, tried again unseen", again, text)


def kill_in_stream(site: Site, outcome: Outcome) -> None:
    _signal_in_stream(site, outcome, signal.SIGKILL, "worker_died")


def stop_in_stream(site: Site, outcome: Outcome) -> None:
    _signal_in_stream(site, outcome, signal.SIGSTOP, "turn_timeout")


def _signal_in_stream(site: Site, outcome: Outcome, number: int, code: str) -> None:
    with site.stream(words=2000) as victim, site.stream(words=60) as beside:
        worker = site.worker("leased", victim.conversation)
        site.doom(worker)
        worker.send_signal(number)
        told = victim.end()
        outcome.loses(TOLD, told == code, told)
        ended = beside.end()
        outcome.survives(BESIDE, ended == "whole", ended)


def kill_between_turns(site: Site, outcome: Outcome) -> None:
    site.kill_idle()
    site.go_on()
    outcome.survives("the conversation, all of it", True)


def kill_parked(site: Site, outcome: Outcome) -> None:
    call = {"blocks": [{"type": "tool_use", "name": "mcp__client__look_up", "input": {}}]}
    prompt = directive(replies=[call, {"text": "it is 42"}])
    messages: list[Any] = [{"role": "user", "content": prompt}]
    tools: list[Any] = [FUNCTION]
    asked = site.client.chat.completions.create(model=MODEL, messages=messages, tools=tools)
    said = asked.choices[0].message
    outcome.survives("the call", said.tool_calls, said.content)
    worker = site.worker("parked")
    site.doom(worker)
    worker.kill()
    messages.append(said.model_dump(exclude_none=True))
    for call_of_function in said.tool_calls or ():
        messages.append({"role": "tool", "tool_call_id": call_of_function.id, "content": "42"})
    site.model.forget()
    ended = site.client.chat.completions.create(model=MODEL, messages=messages, tools=tools)
    told = ended.choices[0].message.content
    outcome.survives("the turn that brings the result", told == "it is 42", told)
    given = str(site.model.requests()[-1]["body"]["messages"])
    outcome.survives("call and result, given to the model", "tool_result" in given, given)


def kill_keeper_of_spare(site: Site, outcome: Outcome) -> None:
    spare = site.spare()
    site.doom(spare)
    site.keeper(spare).kill()
    outcome.survives("the next turn", site.ask(text="next") == "next")


def kill_keeper_in_stream(site: Site, outcome: Outcome) -> None:
    with site.stream(words=100) as victim, site.stream(words=60) as beside:
        worker = site.worker("leased", victim.conversation)
        site.doom(worker)
        site.keeper(worker).kill()
        told = victim.end()
        if told == "whole":
            outcome.survives("the turn", True)
        else:
            outcome.loses(TOLD, told == "worker_died", told)
        ended = beside.end()
        outcome.survives(BESIDE, ended == "whole", ended)


def stop_keeper_and_worker(site: Site, outcome: Outcome) -> None:
    with site.stream(words=2000) as victim:
        worker = site.worker("leased", victim.conversation)
        site.doom(worker)
        site.keeper(worker).suspend()
        worker.suspend()
        told = victim.end()
        outcome.loses(TOLD, told == "turn_timeout", told)


def kill_everything_below(site: Site, outcome: Outcome) -> None:
    with site.stream(words=2000) as victim:
        site.doom_all()
        for process in site.daemon.tree():
            process.kill()
        told = victim.end()
        outcome.loses(TOLD, told == "worker_died", told)


DRILLS: Final = (
    Drill("kill-spare", "SIGKILL to a spare", kill_spare),
    Drill("kill-before-token", "SIGKILL before the first token", kill_before_first_token),
    Drill("kill-in-stream", "SIGKILL in mid-stream", kill_in_stream),
    Drill("kill-between-turns", "SIGKILL to all idle workers", kill_between_turns),
    Drill("kill-parked", "SIGKILL while a function's result is awaited", kill_parked),
    Drill("stop-in-stream", "SIGSTOP in mid-stream", stop_in_stream),
    Drill("kill-keeper-spare", "SIGKILL to a spare's keeper", kill_keeper_of_spare),
    Drill("kill-keeper-stream", "SIGKILL to the keeper in mid-stream", kill_keeper_in_stream),
    Drill("stop-keeper", "SIGSTOP to keeper and worker in mid-stream", stop_keeper_and_worker),
    Drill("kill-all-below", "SIGKILL to every process of the daemon", kill_everything_below),
)
