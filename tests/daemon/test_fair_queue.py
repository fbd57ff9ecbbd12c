"""The order in which requests are served."""

from collections import deque
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxd.daemon.fair_queue import FairQueue


@dataclass(eq=False)
class Request:
    client: str
    number: int

    def __repr__(self) -> str:
        return f"{self.client}{self.number}"


def queue_of(*names: str) -> FairQueue[Request]:
    queue: FairQueue[Request] = FairQueue()
    for name in names:
        queue.append(Request(name[0], int(name[1:])))
    return queue


def served(queue: FairQueue[Request]) -> list[str]:
    order = []
    while queue:
        waiter = next(iter(queue))
        queue.serve(waiter)
        order.append(repr(waiter))
    return order


def test_one_client_is_served_in_order() -> None:
    assert served(queue_of("a1", "a2", "a3")) == ["a1", "a2", "a3"]


def test_clients_take_turns() -> None:
    queue = queue_of("a1", "a2", "a3", "b1", "c1", "c2")
    assert served(queue) == ["a1", "b1", "c1", "a2", "c2", "a3"]


def test_a_hundred_requests_delay_another_client_by_one() -> None:
    queue = queue_of(*(f"a{n}" for n in range(100)), "b0")
    assert served(queue).index("b0") == 1


def test_who_was_served_and_comes_again_goes_behind_the_others() -> None:
    queue = queue_of("a1", "b1")
    queue.serve(next(iter(queue)))
    queue.append(Request("a", 2))
    assert served(queue) == ["b1", "a2"]


def test_prepended_is_first_of_its_client_not_of_all() -> None:
    queue = queue_of("a1", "b1", "b2")
    queue.prepend(Request("b", 0))
    assert served(queue) == ["a1", "b0", "b1", "b2"]


def test_removed_costs_its_client_no_turn() -> None:
    queue = queue_of("a1", "a2", "b1")
    queue.remove(next(iter(queue)))
    assert served(queue) == ["a2", "b1"]


def test_what_is_not_queued_cannot_be_removed() -> None:
    queue = queue_of("a1")
    with pytest.raises(ValueError, match=r"not queued|not in deque"):
        queue.remove(Request("b", 1))
    with pytest.raises(ValueError, match=r"not queued|not in deque"):
        queue.remove(Request("a", 1))
    assert served(queue) == ["a1"]


def test_an_empty_queue_is_false_and_holds_nothing() -> None:
    queue = queue_of("a1")
    assert queue
    queue.remove(next(iter(queue)))
    assert not queue
    assert list(queue) == []


Action = st.tuples(st.sampled_from(("append", "prepend", "serve", "remove")), st.integers(0, 9))


@given(st.lists(Action))
def test_it_agrees_with_a_plain_list_of_lines(actions: list[tuple[str, int]]) -> None:
    queue: FairQueue[Request] = FairQueue()
    lines: list[tuple[str, deque[Request]]] = []
    for number, (action, choice) in enumerate(actions):
        waiting = list(queue)
        if action in ("append", "prepend"):
            waiter = Request("abc"[choice % 3], number)
            line = next((line for client, line in lines if client == waiter.client), None)
            if line is None:
                line = deque()
                lines.append((waiter.client, line))
            if action == "append":
                queue.append(waiter)
                line.append(waiter)
            else:
                queue.prepend(waiter)
                line.appendleft(waiter)
        elif waiting:
            waiter = waiting[choice % len(waiting)]
            (queue.serve if action == "serve" else queue.remove)(waiter)
            entry = next(entry for entry in lines if entry[0] == waiter.client)
            entry[1].remove(waiter)
            if action == "serve" or not entry[1]:
                lines.remove(entry)
                if entry[1]:
                    lines.append(entry)
        longest = max((len(line) for _, line in lines), default=0)
        expected = [
            line[depth] for depth in range(longest) for _, line in lines if depth < len(line)
        ]
        assert list(queue) == expected
        assert bool(queue) == bool(expected)
