"""A Telegram Bot API, webhook and apprise JSON target on loopback that keeps what it is sent."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import SimpleQueue
from typing import Any

from msgspec import Struct


class Post(Struct, frozen=True):
    path: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class BotApi:
    """Serves from its making until `close`. `statuses` are answered first, one per request, then
    200; a status of 0 closes the connection without an answer, and -1 never answers."""

    def __init__(self, *statuses: int) -> None:
        self.posts: list[Post] = []
        self._came: SimpleQueue[Post] = SimpleQueue()
        self._released = threading.Event()
        left = list(statuses)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                post = Post(self.path, headers, body)
                outer.posts.append(post)
                outer._came.put(post)
                status = left.pop(0) if left else 200
                if status == -1:
                    outer._released.wait()
                if status <= 0:
                    self.close_connection = True
                    return
                self.send_response(status)
                if status in (301, 302, 307):
                    self.send_header("location", f"{outer.base}/elsewhere")
                answer = json.dumps({"ok": status == 200, "result": {}}).encode()
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.base = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def wait(self, seconds: float = 30.0) -> Post:
        """The next request. Raises queue.Empty without one."""
        return self._came.get(timeout=seconds)

    def close(self) -> None:
        self._released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> "BotApi":
        return self

    def __exit__(self, *args: object) -> None:
        self.close()
