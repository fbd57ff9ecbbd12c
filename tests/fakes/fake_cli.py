#!/usr/bin/env python3
"""A stand-in for the claude CLI: its command line, its protocol and its faults, with no model.

    fake_cli.py --print --input-format=stream-json …     as maxd.workers.profiles writes it
    fake_cli.py --version
    fake_cli.py auth status --json

A turn is answered with an echo of exactly what a model would have been sent: the JSON
`{"system": …, "messages": [[role, [block, …]], …]}`, where a text block is its text and an image
is `["image", media type, data]`. Like the real CLI it joins user messages that follow one
another, lets unwaited history run together at the end, drops blank messages and empty text
blocks, and takes a last text that begins with "/" for a command of its own.

Knobs, all environment variables. Those marked * can also be set for one turn, in the text to
answer: `<<fake tokens=5 answer=529>>`.

FAKE_CLI_VERSION      default 2.1.330; with 2.1.197 it differs where that one was seen to
FAKE_CLI_AUTH         logged_in (default), logged_out, garbage, silent
FAKE_CLI_TEXT *       the answer, in place of the echo
FAKE_CLI_TOKENS *     that many numbered words in place of the echo
FAKE_CLI_DELAY *      seconds before each token
FAKE_CLI_THINKING *   a thinking block before the answer
FAKE_CLI_USAGE *      input,cache creation,cache read,output,thinking tokens of the turn
FAKE_CLI_ANSWER *     ok (default); an upstream status (400, 401, 403, 404, 413, 429, 500, 529);
                      limit (429 with the account's window used up), warning (good, but near it),
                      unreachable, logged_out, too_long, gave_up; retry=STATUS (good at the second
                      try); tool=NAME (a call of this tool first, with FAKE_CLI_COMMAND as its
                      input); cut=N (upstream is cut after N tokens, good at the second try);
                      lost=N (cut after N tokens, no second try); open (a success that ends in the
                      middle of a message); unstreamed (no deltas); empty; refusal; max_tokens
FAKE_CLI_RESET        what `/clear` does: ok (default); leaks (forgets nothing); recalls (puts it
                      into the system prompt); summarizes (asks upstream first); crumbs (leaves
                      two kilobytes); unbinds (loses the system prompt); tools (has tools from
                      then on); same (keeps the session id); refused; error; asks (takes it for
                      a question); hang; exit. With =N from the Nth reset on
FAKE_CLI_WRITES       when a session's transcript is written: at_once (default), or late=SECONDS
                      after what is written (0.1 with 2.1.197), and at the end of stdin
FAKE_CLI_UPSTREAM     if set, the answer is that of the Messages API at ANTHROPIC_BASE_URL
FAKE_CLI_COMMAND *    what a call of the tool Bash runs, if it is allowed
FAKE_CLI_REMARK *     what is said before such a call
FAKE_CLI_AT *         what happens at a step: `STEP:ACTION` and more of them, separated by spaces

Steps: start; ready (asked for its version, not yet answered); bind (given `initialize`, not yet
answered); import=N (given the Nth message of the history, 1 is the first); ask (given the message
to answer); message_start; token=N (after N tokens); last_token; message_stop (before `result`);
result (after it); eof (stdin has ended); after=MS (a timer from the start).

Actions: exit=CODE; signal=NAME (SIGKILL, …, to itself); wait=SECONDS; hang (for ever, reading
nothing); mute (goes on reading, says nothing any more); ignore=SIGNAL; junk=N (lines of binary
junk); odd (messages of unknown types, known ones with unknown fields, blank lines); broken (a
known message in an unknown shape); line=MB (a valid line that long); badline=MB (an invalid
one); endless (a line that never ends); bytewise (from now on every byte is written by itself);
stderr=MB (a flood there); tell=TEXT (a line there); children=SHAPE (of hostile.py, FAKE_CLI_TOKEN
in their command line; they hold stdout too); close (closes stdout and goes on).
"""

from __future__ import annotations

import json
import os
import sys
import time

# Nothing is found by itself: the fake is run without site-packages, as quickly as may be. What
# it imports is compiled once, which this file is not.
sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from tests.fakes.fake_cli_pipes import fail
from tests.fakes.fake_cli_turns import Cli

# Of the real CLI's options those that a worker may be started with; True takes a value.
OPTIONS = {
    "--print": False,
    "--input-format": True,
    "--output-format": True,
    "--verbose": False,
    "--include-partial-messages": False,
    "--no-session-persistence": False,
    "--model": True,
    "--permission-mode": True,
    "--permission-prompt-tool": True,
    "--tools": True,
    "--allowedTools": True,
    "--disallowedTools": True,
    "--setting-sources": True,
    "--settings": True,
    "--strict-mcp-config": False,
    "--mcp-config": True,
    "--chrome": False,
    "--no-chrome": False,
    "--effort": True,
    "--add-dir": True,
    "--disable-slash-commands": False,
    "--session-id": True,
    "--resume": True,
    "--fork-session": False,
}
CHOICES = {
    "--input-format": ("text", "stream-json"),
    "--output-format": ("text", "json", "stream-json"),
    "--permission-mode": ("acceptEdits", "bypassPermissions", "default", "dontAsk", "plan"),
}


def parse_options(words: list[str]) -> dict[str, str]:
    """The options of the command line, or the end, with the real CLI's words on stderr."""
    options = {}
    words = list(words)
    while words:
        name, given, value = words.pop(0).partition("=")
        name = "--print" if name == "-p" else name
        if name not in OPTIONS:
            fail(f"error: unknown option '{name}'")
        if OPTIONS[name] and not given:
            if not words:
                fail(f"error: option '{name} <value>' argument missing")
            value = words.pop(0)
        if name in CHOICES and value not in CHOICES[name]:
            allowed = ", ".join(CHOICES[name])
            reason = f"argument '{value}' is invalid. Allowed choices are {allowed}."
            fail(f"error: option '{name} <value>' {reason}")
        options[name] = value
    if "--print" not in options or options.get("--input-format") != "stream-json":
        fail("Error: this fake is only spoken to with --print --input-format=stream-json")
    if options.get("--output-format") != "stream-json":
        fail("Error: --input-format=stream-json requires output-format=stream-json.")
    if "--verbose" not in options:
        fail("Error: When using --print, --output-format=stream-json requires --verbose")
    return options


def auth_status() -> int:
    state = os.environ.get("FAKE_CLI_AUTH", "logged_in")
    if state == "silent":
        time.sleep(60)
    if state == "garbage":
        print("Segmentation fault? No: \x00\x01 {not json")
        return 0
    logged_in = state == "logged_in"
    status = {
        "loggedIn": logged_in,
        "authMethod": "oauth_token" if logged_in else "none",
        "apiProvider": "firstParty",
        "configDirectory": os.path.expanduser("~/.claude"),
        "loginExpiresAt": None,
    }
    print(json.dumps(status, indent=2))
    return 0 if logged_in else 1


def main(words: list[str]) -> int:
    if words == ["--version"]:
        print(f"{os.environ.get('FAKE_CLI_VERSION', '2.1.330')} (Claude Code)")
        return 0
    if words == ["auth", "status", "--json"]:
        return auth_status()
    Cli(parse_options(words)).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
