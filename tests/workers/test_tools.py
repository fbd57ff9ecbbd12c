"""The line that tells what a tool was asked for."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxd.workers.tools import LONGEST, detail


def of(**fields: object) -> str:
    return detail(msgspec.Raw(msgspec.json.encode(fields)))


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"command": "make test", "description": "Run the tests"}, "make test"),
        ({"command": "\n  cd x\nmake"}, "cd x…"),
        ({"file_path": "/a/b.py", "old_string": "x"}, "/a/b.py"),
        ({"description": "Look around", "prompt": "secret"}, "Look around"),
        ({"command": 7, "path": "/x"}, "/x"),
        ({"command": "a\x1b[2Jb\tc"}, "a [2Jb c"),
        ({"other": "x"}, ""),
        ({}, ""),
    ],
)
def test_what_says_most_is_told(fields: dict[str, object], line: str) -> None:
    assert of(**fields) == line


@pytest.mark.parametrize("raw", [b"[]", b"null", b"{", b"\xff", b"[" * 9999])
def test_an_input_of_another_form_says_nothing(raw: bytes) -> None:
    assert detail(msgspec.Raw(raw)) == ""


@given(st.text())
def test_it_is_one_short_line_of_what_can_be_printed(command: str) -> None:
    line = of(command=command)
    assert len(line) <= LONGEST + 1
    assert line.isprintable()
