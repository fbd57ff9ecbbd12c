"""The documents print what the code says."""

import re
from pathlib import Path

from maxd.daemon.demo import EXAMPLES
from maxd.http import errors_doc
from maxd.http.anthropic_fields import FIELDS as MESSAGES_FIELDS
from maxd.http.openai_fields import FIELDS as CHAT_FIELDS
from maxd.http.responses_fields import FIELDS as RESPONSES_FIELDS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
API = (ROOT / "docs" / "api.md").read_text()


def between(marker: str) -> str:
    return API.split(f"<!-- {marker} -->")[1].split(f"<!-- /{marker} -->")[0].strip()


def test_fields_of_a_request() -> None:
    assert between("fields") == CHAT_FIELDS.markdown_table()
    assert between("messages fields") == MESSAGES_FIELDS.markdown_table()


def test_fields_of_a_responses_request() -> None:
    assert between("responses-fields") == RESPONSES_FIELDS.markdown_table()


def test_errors() -> None:
    assert between("errors") == errors_doc.markdown_table()


def test_examples_are_those_of_the_demo() -> None:
    printed = EXAMPLES.format(base="http://127.0.0.1:3456")
    commands = re.findall(r"^    (curl .*?}')$", printed, re.MULTILINE | re.DOTALL)
    assert len(commands) == 2
    for command in commands:
        assert command in README
    snippet = printed[printed.index("from openai") : printed.index("\nCtrl-C")]
    assert "\n".join(line[4:] for line in f"    {snippet}".splitlines()).strip() in README
