"""Calls and results of a history in the one form that the model's API takes."""

import time

from hypothesis import given
from hypothesis import strategies as st

from maxd.http.call_pairs import NO_RESULT, ORPHAN, ORPHAN_EMPTY, paired
from maxd.workers.turn import Image, Message, Part, Text, ToolCall, ToolResult


def call(call_id: str, name: str = "f") -> ToolCall:
    return ToolCall(call_id, name, "{}")


def result(call_id: str, *texts: str, error: bool = False) -> ToolResult:
    return ToolResult(call_id, tuple(map(Text, texts)), is_error=error)


def missing(call_id: str) -> ToolResult:
    return result(call_id, NO_RESULT, error=True)


def user(*parts: Part) -> Message:
    return Message("user", parts)


def answer(*parts: Part) -> Message:
    return Message("assistant", parts)


HI = user(Text("hi"))
MORE = user(Text("more"))


def test_a_history_without_calls_stays_as_it_is() -> None:
    history = (answer(Text("a")), HI, HI, answer(Text("a")), answer(Text("b")), MORE)
    assert paired(history) == history
    assert paired(()) == ()


def test_results_stand_together_in_the_order_of_the_calls() -> None:
    history = (
        HI,
        answer(Text("Let me."), call("a"), call("b")),
        user(result("b", "2")),
        user(result("a", "1")),
    )
    assert paired(history) == (*history[:2], user(result("a", "1"), result("b", "2")))


def test_what_the_user_says_follows_the_results() -> None:
    image = user(Image("image/png", "aGk="))
    assert paired(
        [answer(call("a"), call("b")), user(result("a", "1")), image, user(result("b", "2")), MORE]
    ) == (answer(call("a"), call("b")), user(result("a", "1"), result("b", "2")), image, MORE)
    assert paired([answer(call("a")), user(Text("x"), result("a", "1"), Text("y"))]) == (
        answer(call("a")),
        user(result("a", "1")),
        user(Text("x"), Text("y")),
    )


def test_a_call_without_a_result_gets_an_error() -> None:
    assert paired([answer(call("a"), call("b")), user(result("b", "2")), MORE]) == (
        answer(call("a"), call("b")),
        user(missing("a"), result("b", "2")),
        MORE,
    )
    assert paired([answer(call("a")), answer(Text("done")), MORE]) == (
        answer(call("a")),
        user(missing("a")),
        answer(Text("done")),
        MORE,
    )


def test_a_result_without_its_call_is_something_the_user_says() -> None:
    assert paired([user(result("x", "1")), MORE]) == (user(Text(ORPHAN), Text("1")), MORE)
    assert paired([user(result("x"))]) == (user(Text(ORPHAN_EMPTY)),)
    # A call that was answered long ago is none that waits.
    old = [answer(call("a")), user(result("a", "1")), answer(Text("done"))]
    assert paired([*old, user(result("a", "2"))])[-1] == user(Text(ORPHAN), Text("2"))


def test_new_messages_alone_may_begin_with_results() -> None:
    new = [MORE, user(result("a", "1")), user(result("b", "2"))]
    assert paired(new, partial=True) == (user(result("a", "1"), result("b", "2")), MORE)
    # With a history they are looked for in it.
    assert paired([answer(Text("x")), *new], partial=True)[-1] == user(Text(ORPHAN), Text("2"))


def test_a_result_told_twice_is_one_result() -> None:
    assert paired([answer(call("a")), user(result("a", "1")), user(result("a", "2", error=True))])[
        1:
    ] == (user(result("a", "1", "2", error=True)),)


def test_a_round_told_as_several_messages_is_one() -> None:
    several = [answer(Text("Let me.")), answer(call("a")), answer(call("b"))]
    results = [user(result("a", "1")), user(result("b", "2"))]
    assert paired([HI, *several, *results]) == (
        HI,
        answer(Text("Let me."), call("a"), call("b")),
        user(result("a", "1"), result("b", "2")),
    )


def test_ids_that_come_again_are_told_apart() -> None:
    twice = [answer(call("a")), user(result("a", "1"))] * 2
    assert paired(twice) == (*twice[:2], answer(call("a-2")), user(result("a-2", "1")))
    # Empty ones too, within a round by their order.
    assert paired([answer(call(""), call("")), user(result("", "1")), user(result("", "2"))]) == (
        answer(call("call"), call("call-2")),
        user(result("call", "1"), result("call-2", "2")),
    )
    # An id of the client's may be what another was given.
    assert paired([answer(call("a"), call("a"), call("a-2"))])[0] == answer(
        call("a"), call("a-2"), call("a-2-2")
    )


IDS = st.sampled_from(["a", "b", "", "a-2"])
SAID = st.lists(
    st.sampled_from([Text("x")]) | IDS.map(lambda i: result(i, "r")) | IDS.map(lambda i: result(i)),
    min_size=1,
    max_size=4,
).map(lambda parts: user(*parts))
ANSWERED = st.lists(
    st.sampled_from([Text("y")]) | IDS.map(call), min_size=1, max_size=4
).map(lambda parts: answer(*parts))  # fmt: skip


@given(st.lists(SAID | ANSWERED, max_size=8))
def test_every_call_has_its_one_result_and_nothing_is_lost(history: list[Message]) -> None:
    made = paired([*history, MORE])
    assert made == paired([*history, MORE])
    assert paired(made) == made
    ids = [part.id for message in made for part in message.parts if isinstance(part, ToolCall)]
    assert len(set(ids)) == len(ids)
    assert all(message.parts for message in made)
    for index, message in enumerate(made):
        calls = [part.id for part in message.parts if isinstance(part, ToolCall)]
        results = [part.call_id for part in message.parts if isinstance(part, ToolResult)]
        if calls:
            assert message.role == "assistant"
            told = made[index + 1].parts
            assert [part.call_id for part in told if isinstance(part, ToolResult)] == calls
            assert len(told) == len(calls)
        if results:
            assert message.role == "user"
            assert any(isinstance(part, ToolCall) for part in made[index - 1].parts)
    before = sum(part == Text("r") for m in history for p in m.parts for part in inside(p))
    after = sum(part == Text("r") for m in made for p in m.parts for part in inside(p))
    assert before == after


def inside(part: Part) -> tuple[Part, ...]:
    return part.parts if isinstance(part, ToolResult) else (part,)


def test_hostile_histories_take_linear_time() -> None:
    def seconds(count: int) -> float:
        begun = time.process_time()
        for history in (
            [answer(*[call("")] * count), *[user(result("", "r"))] * count],
            [*[answer(call("a"))] * count, user(result("a"))],
            [answer(call("a")), *[user(result("a", "r"))] * count],
            [answer(call("a")), user(result("a"))] * count,
        ):
            paired(history)
        return time.process_time() - begun

    seconds(100)
    # 32 times as long; 1,024 times the time if each step looked at all before it.
    assert seconds(16_000) < 300 * max(seconds(500), 0.001)
