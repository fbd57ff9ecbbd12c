"""Clients that ask all the time, each request on a connection of its own, until stdin is closed.

Prints what has come of each request, one a line: `whole`, or what was wrong. Runs where nothing is
installed.
"""

import http.client
import json
import sys
import threading

PORT = 3456
ATTEMPT_SECONDS = 90.0

end = threading.Event()


def ask(canary: str) -> str:
    prompt = f"<<loopback {json.dumps({'text': canary})} >>"
    body = {"model": "sonnet:chat", "messages": [{"role": "user", "content": prompt}]}
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=ATTEMPT_SECONDS)
    try:
        connection.request(
            "POST",
            "/v1/chat/completions",
            json.dumps(body),
            {"Content-Type": "application/json", "Connection": "close"},
        )
        reply = connection.getresponse()
        text = reply.read().decode()
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__
    finally:
        connection.close()
    if reply.status != 200:
        return f"{reply.status} {text}"
    answer = json.loads(text)["choices"][0]["message"]["content"]
    return "whole" if answer == canary else f"wrong: {answer}"


def client(name: int) -> None:
    number = 0
    while not end.is_set():
        number += 1
        print(ask(f"canary-{name}-{number}"), flush=True)


clients = [threading.Thread(target=client, args=(name,)) for name in range(int(sys.argv[1]))]
for each in clients:
    each.start()
sys.stdin.read()
end.set()
for each in clients:
    each.join()
