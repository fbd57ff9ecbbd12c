"""Clients' JSON schemas as the CLI's own validators take them.

The CLI checks functions by the 2020-12 draft and drops a function whose schema is not valid in
it, without a word. It compiles the schema of an answer by draft 7, strictly: an unknown keyword,
another `$schema` or a pattern that is no JavaScript, and the model cannot give an answer of any
schema (2.1.197 and 2.1.330; with 2.1.197 any `format` too). Clients' libraries write all of these.
A schema in which nothing has to be changed stays as it is, to the letter.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

import msgspec

_Schema: TypeAlias = dict[str, Any]

# Which keywords hold one schema, a list of them, or schemas by name, in any draft: `items` was a
# list before 2020-12, and `dependencies` holds lists of names as well.
ONE: Final = ("additionalProperties", "additionalItems", "items", "not", "contains",
              "propertyNames", "if", "then", "else", "unevaluatedProperties",
              "unevaluatedItems")  # fmt: skip
LIST: Final = ("anyOf", "oneOf", "allOf", "prefixItems", "items")
NAMED: Final = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas",
                "dependencies")  # fmt: skip

# Draft 7, and what the CLI's validator knows besides.
_KNOWN: Final = frozenset(
    (
        "$id", "$ref", "$comment", "$defs", "definitions", "title", "description", "default",
        "deprecated", "readOnly", "writeOnly", "examples", "type", "nullable", "const", "enum",
        "contentMediaType", "contentEncoding", "multipleOf", "maximum",
        "exclusiveMaximum", "minimum", "exclusiveMinimum", "maxLength", "minLength", "pattern",
        "items", "additionalItems", "maxItems", "minItems", "uniqueItems", "contains",
        "maxProperties", "minProperties", "required", "properties", "patternProperties",
        "additionalProperties", "dependencies", "propertyNames", "if", "then", "else", "allOf",
        "anyOf", "oneOf", "not",
    )
)  # fmt: skip
# What a regular expression is made of, as far as JavaScript (with the flag `u`) and Python agree.
_TOKEN = re.compile(
    r"""
    (?P<property> \\[pP]\{\w+(?:=\w+)?\} )
  | (?P<escape>   \\. )
  | (?P<set>      \[\^?(?:\\.|[^\]\\])+\] )
  | (?P<repeat>   (?:[*+?]|\{[0-9]+(?:,[0-9]*)?\})\??(?![*+?{]) )
  | (?P<named>    \(\?P?<[A-Za-z_]\w*> )
  | (?P<other>    \((?!\?) | \(\?[:=!] | \(\?<[=!] | [^\\\[\](){}*+?] | \) )
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPES = frozenset("dDwWsSbBfnrtv0123456789^$\\.*+?()[]{}|/")
# What Python writes otherwise.
_ANCHORS = {r"\A": "^", r"\Z": "$"}


def function_schema(text: str) -> str:
    """The schema of a function's parameters."""
    return _changed(text, _for_function)


def answer_schema(text: str) -> str:
    """The schema of an answer. What its validator does not know is left out: the answer is not
    held to that. A format, and a pattern that cannot be had, are told to the model in words."""
    return _changed(text, _for_answer)


def _changed(text: str, change: Callable[[_Schema], _Schema]) -> str:
    schema = msgspec.json.decode(text)
    changed = _everywhere(schema, change)
    return text if changed == schema else msgspec.json.encode(changed).decode()


def _everywhere(schema: Any, change: Callable[[_Schema], _Schema]) -> Any:
    """`change` done to a schema and all in it, the outer ones first."""
    if not isinstance(schema, dict):
        return schema
    changed = change(schema)
    for word, value in changed.items():
        if word in LIST and isinstance(value, list):
            changed[word] = [_everywhere(each, change) for each in value]
        elif word in NAMED and isinstance(value, dict):
            changed[word] = {name: _everywhere(each, change) for name, each in value.items()}
        elif word in ONE:
            changed[word] = _everywhere(value, change)
    return changed


def _for_function(schema: _Schema) -> _Schema:
    changed = _common(schema)
    if isinstance(changed.get("items"), list):
        # A tuple, as drafts before 2020-12 have it.
        changed["prefixItems"] = changed.pop("items")
        if "additionalItems" in changed:
            changed["items"] = changed.pop("additionalItems")
    return changed


def _for_answer(schema: _Schema) -> _Schema:
    changed = _common(schema)
    if isinstance(changed.get("prefixItems"), list):
        rest = changed.pop("items", None)
        changed["items"] = changed.pop("prefixItems")
        if rest is not None:
            changed["additionalItems"] = rest
    elif not isinstance(changed.get("items"), list):
        changed.pop("additionalItems", None)
    for word in ("dependentRequired", "dependentSchemas"):
        if isinstance(added := changed.get(word), dict):
            before = changed.get("dependencies")
            changed["dependencies"] = {**before, **added} if isinstance(before, dict) else added
    if "if" not in changed or not changed.keys() & {"then", "else"}:
        changed = {word: value for word, value in changed.items() if word not in _CONDITION}
    if "type" not in changed:
        changed.pop("nullable", None)
    if isinstance(form := changed.get("format"), str):
        _tell(changed, f"Its format is {form}.")
    changed = {word: value for word, value in changed.items() if word in _KNOWN}
    if isinstance(pattern := changed.get("pattern"), str):
        _set_pattern(changed, pattern)
    return changed


_CONDITION = ("if", "then", "else")


def _common(schema: _Schema) -> _Schema:
    """What both drafts have in common, and older ones and OpenAPI have not."""
    changed = dict(schema)
    for low, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(changed.get(low), bool) and changed.pop(low) and bound in changed:
            changed[low] = changed.pop(bound)
    for word in ("required", "enum"):
        if isinstance(changed.get(word), list):
            changed[word] = _distinct(changed[word])
    return changed


def _distinct(values: Iterable[Any]) -> list[Any]:
    # By their JSON, because to Python 1 and True are equal.
    return list({msgspec.json.encode(value): value for value in values}.values())


def _set_pattern(schema: _Schema, pattern: str) -> None:
    """The pattern in JavaScript's words, or else a sentence for the model."""
    translated = javascript(pattern)
    if translated is None:
        del schema["pattern"]
        _tell(schema, f"It must match the regular expression {pattern}")
    else:
        schema["pattern"] = translated


def _tell(schema: _Schema, sentence: str) -> None:
    schema["description"] = f"{schema.get('description', '')}\n{sentence}".strip()


def javascript(pattern: str) -> str | None:
    """A regular expression of Python's or of JavaScript's as JavaScript has it with the flag `u`;
    None where that is not known to be possible."""
    out: list[str] = []
    # The same for Python, which is to find what is wrong with brackets, ranges and repetitions.
    check: list[str] = []
    place = 0
    while place < len(pattern):
        found = _TOKEN.match(pattern, place)
        if found is None:
            return None
        token, place = found[0], found.end()
        match found.lastgroup:
            case "escape" | "set":
                translated = _ANCHORS.get(token) or _escapes(token)
                if translated is None:
                    return None
                out.append(translated)
                check.append(token)
            case "property":
                out.append(token)
                check.append("x")
            case "named":
                out.append("(")
                check.append("(")
            case _:
                out.append(token)
                check.append(token)
    try:
        re.compile("".join(check))
    except (re.error, RecursionError, OverflowError):
        return None
    return "".join(out)


def _escapes(token: str) -> str | None:
    """An escape, or a set with escapes in it: those of punctuation that needs none are errors."""
    within = token.startswith("[")
    wrong = False

    def one(found: re.Match[str]) -> str:
        nonlocal wrong
        character = found[1]
        if character in _ESCAPES or (within and character == "-"):
            return found[0]
        wrong = wrong or character.isalnum()
        return character

    translated = re.sub(r"\\(.)", one, token, flags=re.DOTALL)
    return None if wrong else translated
