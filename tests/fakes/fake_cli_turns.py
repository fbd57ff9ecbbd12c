"""What the fake CLI does with its messages: the protocol of the real one, and its answers."""

from __future__ import annotations

import json
import os
import signal

from tests.fakes.fake_cli_memory import ask_upstream, clear, joined
from tests.fakes.fake_cli_pipes import Stdin, fail, parse_plan
from tests.fakes.fake_cli_sessions import Transcript, new_uuid, resume
from tests.fakes.fake_cli_speech import USAGE_NAMES, Speech

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OLD = "2.1.197"
KNOWN_COMMANDS = {"help", "compact", "config", "context", "cost", "init", "model", "usage"}
# Status, `terminal_reason` (2.1.330) and words of the turns that fail.
FAILURES = {
    "400": (400, "api_error", "API Error: 400 The request is not valid."),
    "401": (401, "api_error", "Failed to authenticate. API Error: 401 invalid x-api-key"),
    "403": (403, "api_error", "Failed to authenticate. API Error: 403"),
    "404": (404, "api_error", "There's an issue with the selected model. It may not exist."),
    "413": (413, "image_error", "Request too large (max 32MB)."),
    "429": (429, "api_error", "API Error: Request rejected (429)"),
    "500": (500, "api_error", "API Error: 500 Internal server error."),
    "529": (529, "api_error", "API Error: 529 Overloaded."),
    "limit": (429, "api_error", "You've hit your 5-hour limit · resets 10:25am (UTC)"),
    "unreachable": (None, "api_error", "API Error: Connection refused (ECONNREFUSED)"),
    "lost": (None, "api_error", "API Error: Connection to the API was lost (ECONNRESET)."),
    "logged_out": (None, "api_error", "Not logged in · Please run /login"),
    "too_long": (None, "prompt_too_long", "Prompt is too long"),
    "gave_up": (None, "completed", "Something else."),
    "max_tokens": (
        None,
        "api_error",
        "API Error: Claude's response exceeded the 32000 output token maximum.",
    ),
    "refusal": (None, "api_error", "API Error: Sonnet 4.5 can't help with this."),
}
OWN_PROMPT = "(the prompt of the CLI itself)"


class Cli(Speech):
    """One worker. Its life is `run`; everything else is a step of it."""

    def __init__(self, options: dict[str, str]) -> None:
        settings = {
            name.removeprefix("FAKE_CLI_").lower(): value
            for name, value in os.environ.items()
            if name.startswith("FAKE_CLI_")
        }
        super().__init__(settings, options.get("--model", "claude-fake"))
        self.options = options
        self.stdin = Stdin()
        self.old = self.settings.get("version") == OLD
        self.system = ""
        self.bound = False
        self.waiting: list[Any] = []
        self.imported = 0
        self.interrupted = False
        self.resets = 0
        self.tools: list[Any] = []
        # The system prompt that a resumed session has had, which it keeps (not 2.1.197).
        self.snapshot: str | None = None
        self.transcript: Transcript | None = None
        if "--no-session-persistence" not in options and "--resume" not in options:
            self.session = new_uuid()
            self.transcript = Transcript(self)

    def run(self) -> None:
        for step in self.plan:
            if step.startswith("after="):
                seconds = float(step.removeprefix("after=")) / 1000
                signal.signal(signal.SIGALRM, lambda *_, step=step: self.at(step))
                signal.setitimer(signal.ITIMER_REAL, seconds)
        self.at("start")
        if "--resume" in self.options:
            resume(self, self.options["--resume"])
        while True:
            message = self.stdin.message()
            if message is None:
                break
            self.hear(message)
            # The real CLI takes in all lines that are there before it works on a user message.
            self.stdin.receive(0)
            while self.waiting and not self.stdin.lines:
                message = self.waiting.pop(0)
                self.user(message, glued=bool(self.waiting))
                self.stdin.receive(0)
        self.at("eof")
        if self.transcript is not None:
            self.transcript.write()

    def hear(self, message: Any) -> None:
        kind = message.get("type")
        if kind == "control_request":
            self.control(message["request_id"], message["request"])
        elif kind == "assistant":
            self.remember("assistant", message["message"]["content"])
        elif kind == "user":
            self.waiting.append(message)
        elif kind != "control_response":
            fail(f"Error: Expected message type 'user' or 'control', got '{kind}'")

    def control(self, request_id: str, request: Any) -> None:
        answer: dict[str, Any] = {"subtype": "success", "request_id": request_id}
        subtype = request["subtype"]
        if subtype == "get_binary_version":
            self.at("ready")
            answer["response"] = {"version": self.settings.get("version", "2.1.330")}
        elif subtype == "list_models" and not self.old:
            models = [
                {"value": "default", "resolvedModel": "claude-opus-5-5", "displayName": "Default"},
                {"value": "sonnet", "resolvedModel": "claude-sonnet-5-5", "displayName": "Sonnet"},
            ]
            answer["response"] = {"models": models}
        elif subtype == "initialize":
            self.at("bind")
            if not self.bound:
                self.bind(request)
            answer["response"] = {"commands": [], "models": []}
        elif subtype == "interrupt":
            self.interrupted = True
            answer["response"] = {"still_queued": []}
        else:
            answer["subtype"] = "error"
            answer["error"] = f"Unsupported control request subtype: {subtype}"
        self.say({"type": "control_response", "response": answer})

    def bind(self, request: Any) -> None:
        """It counts once."""
        self.bound = True
        if "systemPrompt" in request:
            self.system = "\n\n".join(request["systemPrompt"])
        else:
            self.system = OWN_PROMPT
        if appended := request.get("appendSystemPrompt"):
            self.system += f"\n\n{appended}"
        if self.snapshot is not None and request.get("systemPromptSnapshot") is not False:
            self.system = self.snapshot
        if self.transcript is not None and not self.old:
            self.transcript.add("snapshot", system=self.system)

    def user(self, message: Any, glued: bool) -> None:
        """One message of the user. `glued`: it was not waited for before the next came."""
        if not self.bound:
            self.bind({})
        content = message["message"]["content"]
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
        texts = [block["text"] for block in content if block["type"] == "text"]
        if texts and texts[-1].split(" ")[0] == "/clear":
            clear(self)
            return
        self.say({"type": "system", "subtype": "init", "session_id": self.session, "tools": []})
        question = message.get("shouldQuery") is not False
        if not question:
            self.imported += 1
            self.at(f"import={self.imported}")
        if texts and texts[-1].startswith("/") and texts[-1][1:].split(" ")[0] in KNOWN_COMMANDS:
            words = f"{texts[-1].split(' ')[0]} isn't available in this environment."
            said = [{"type": "text", "text": words}]
            self.assistant(self.new_id("cli"), "<synthetic>", said, "end_turn")
            self.result(turns=0, text=words)
            return
        if glued and content[-1]["type"] == "text":
            content[-1]["text"] += "\n"
        self.remember("user", content)
        if question:
            self.turn("\n".join(texts))
        else:
            self.result(turns=0)

    def remember(self, role: str, content: list[Any]) -> None:
        """A message that is nothing but blank text never reaches the model."""
        if not all(block["type"] == "text" and not block["text"].strip() for block in content):
            self.history.append((role, content))
            if self.transcript is not None:
                message_id, line = self.said if role == "assistant" else (None, new_uuid())
                message = {"id": message_id, "role": role, "content": content}
                self.transcript.add(role, uuid=line, message=message)

    def turn(self, asked: str) -> None:
        before = self.settings, self.plan
        self.settings = self.settings | directive(asked)
        if "at" in directive(asked):
            self.plan = parse_plan(self.settings["at"])
        self.interrupted = False
        self.tokens = 0
        self.at("ask")
        self.say({"type": "system", "subtype": "status", "status": "requesting"})
        kind, _, value = self.settings.get("answer", "ok").partition("=")
        getattr(self, f"answer_{kind}", self.fail_turn)(value)
        self.at("result")
        self.settings, self.plan = before

    def text(self) -> list[str]:
        if count := self.settings.get("tokens"):
            return [f"word{number} " for number in range(1, int(count) + 1)]
        text = self.settings.get("text")
        if "upstream" in self.settings:
            text = ask_upstream(self)
        elif text is None:
            text = json.dumps(
                {"system": self.system, "messages": joined(self.history)}, ensure_ascii=False
            )
        # A token is a word; a large echo comes in a hundred pieces.
        size = max(8, len(text) // 100)
        return [text[at : at + size] for at in range(0, len(text), size)]

    def answer_ok(self, _value: str) -> None:
        pieces = self.text()
        if self.round(pieces):
            self.finish("".join(pieces))

    def finish(self, text: str, turns: int = 1) -> None:
        self.remember("assistant", [{"type": "text", "text": text}])
        self.at("message_stop")
        self.result(turns=turns, text=text, reason="end_turn", why="completed")

    def round(
        self, pieces: list[str], *, reason: str = "end_turn", tool: dict[str, Any] | None = None
    ) -> bool:
        """One model message. False if the turn is over: it was interrupted."""
        message_id = self.start_message()
        content = []
        if thinking := self.settings.get("thinking"):
            content.append({"type": "thinking", "thinking": thinking, "signature": "c2ln"})
            self.block(0, {"type": "thinking", "thinking": "", "signature": ""})
            self.delta(0, {"type": "thinking_delta", "thinking": thinking})
            self.assistant(message_id, self.model, content[-1:])
            self.event("content_block_stop", index=0)
        index = len(content)
        if pieces:
            self.block(index, {"type": "text", "text": ""})
            for piece in pieces:
                if not self.token(index, piece):
                    self.result(is_error=True, turns=2, why="aborted_streaming")
                    return False
            self.at("last_token")
            content.append({"type": "text", "text": "".join(pieces)})
            self.assistant(message_id, self.model, content[-1:])
            self.event("content_block_stop", index=index)
        if tool is not None:
            self.block(index, tool | {"input": {}})
            arguments = json.dumps(tool["input"])
            self.delta(index, {"type": "input_json_delta", "partial_json": arguments})
            self.assistant(message_id, self.model, [tool])
            self.event("content_block_stop", index=index)
        usage = dict(zip(USAGE_NAMES, self.usage(), strict=False))
        delta = {"stop_reason": reason, "stop_sequence": None}
        self.event("message_delta", delta=delta, usage=usage)
        self.event("message_stop")
        return True

    def start_message(self) -> str:
        message_id = self.new_id("msg")
        message: dict[str, Any] = {"id": message_id, "type": "message", "role": "assistant"}
        message |= {"model": self.model, "content": [], "stop_reason": None}
        self.event("message_start", message=message)
        self.at("message_start")
        return message_id

    def token(self, index: int, piece: str) -> bool:
        """One token of text. False if an interrupt came before it."""
        self.stdin.receive(float(self.settings.get("delay", 0)))
        while self.stdin.lines:
            self.hear(self.stdin.take())
        if self.interrupted:
            return False
        self.delta(index, {"type": "text_delta", "text": piece})
        self.tokens += 1
        self.at(f"token={self.tokens}")
        return True

    def cut_message(self, count: int) -> None:
        """A message whose stream upstream is cut after `count` tokens. 2.1.330 ends the block
        and the message without the `message_delta` of an end, 2.1.197 not even that."""
        self.start_message()
        if count:
            self.block(0, {"type": "text", "text": ""})
            for piece in self.text()[:count]:
                self.token(0, piece)
            if not self.old:
                self.event("content_block_stop", index=0)
        if not self.old:
            self.event("message_stop")

    def answer_cut(self, value: str) -> None:
        self.cut_message(int(value))
        if self.old:
            # It asks again without streaming.
            self.answer_unstreamed("")
        else:
            self.api_retry(None, "unknown")
            self.answer_ok("")

    def answer_lost(self, value: str) -> None:
        self.cut_message(int(value))
        self.fail_turn("")

    def answer_open(self, value: str) -> None:
        self.cut_message(int(value or 1))
        self.finish("")

    def answer_retry(self, value: str) -> None:
        self.api_retry(int(value), "overloaded")
        self.answer_ok("")

    def answer_unstreamed(self, _value: str) -> None:
        text = "".join(self.text())
        content = [{"type": "text", "text": text}]
        self.assistant(self.new_id("msg"), self.model, content, "end_turn")
        self.finish(text)

    def answer_empty(self, _value: str) -> None:
        if self.round([]) and self.round([]):
            self.finish("", turns=2)

    def answer_warning(self, _value: str) -> None:
        self.window("allowed_warning", 0.9)
        self.answer_ok("")

    def answer_limit(self, _value: str) -> None:
        self.window("rejected", 1)
        self.fail_turn("")

    def answer_max_tokens(self, _value: str) -> None:
        for _ in range(4):
            self.round(self.text(), reason="max_tokens")
        self.fail_turn("")

    def answer_refusal(self, _value: str) -> None:
        self.round(self.text(), reason="refusal")
        self.fail_turn("")

    def fail_turn(self, _value: str) -> None:
        kind = self.settings["answer"].partition("=")[0]
        status, why, words = FAILURES[kind]
        said = [{"type": "text", "text": words}]
        self.assistant(self.new_id("cli"), "<synthetic>", said, "stop_sequence")
        self.at("message_stop")
        if self.old:
            why = "completed"
        self.result(is_error=True, text=words, reason="stop_sequence", status=status, why=why)

    def answer_tool(self, name: str) -> None:
        arguments = {"command": self.settings.get("command", "true")}
        tool = {"type": "tool_use", "id": self.new_id("toolu"), "name": name, "input": arguments}
        remark = self.settings.get("remark", "")
        if not self.round([remark] if remark else [], reason="tool_use", tool=tool):
            return
        if self.options.get("--tools") == "":
            said = f"No such tool available: {name}"
        else:
            said = self.ask(tool)
        outcome: dict[str, Any] = {
            "type": "tool_result",
            "tool_use_id": tool["id"],
            "content": said,
        }
        self.say({"type": "user", "message": {"role": "user", "content": [outcome]}})
        self.remember("assistant", [tool])
        self.remember("user", [outcome])
        if self.round([said]):
            self.finish(said, turns=2)

    def ask(self, tool: dict[str, Any]) -> str:
        """Ask for permission, and run the tool if it is given; what came of it."""
        request_id = self.new_id("ask")
        request = {"subtype": "can_use_tool", "tool_name": tool["name"], "input": tool["input"]}
        request["tool_use_id"] = tool["id"]
        self.say({"type": "control_request", "request_id": request_id, "request": request})
        while True:
            message = self.stdin.message()
            if message is None:
                os._exit(0)
            reply = message.get("response", {})
            if reply.get("request_id") == request_id:
                break
            self.hear(message)
        if reply["subtype"] != "success":
            return f"not answered: {reply.get('error')}"
        decision = reply["response"]
        if decision["behavior"] != "allow":
            return f"denied: {decision['message']}"
        if tool["name"] == "Bash":
            os.system(decision["updatedInput"]["command"])
        return f"allowed: {json.dumps(decision['updatedInput'])}"


def directive(text: str) -> dict[str, str]:
    """The settings in `<<fake KEY=VALUE …>>`, if that is in `text`."""
    _, found, rest = text.partition("<<fake ")
    words = rest.partition(">>")[0] if found else ""
    return dict(word.split("=", 1) for word in words.split())
