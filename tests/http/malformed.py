"""Requests that are no HTTP/1.1 or that two readers would take for different ones: each name, what
is sent, and the status it is answered with. They are for the tiny app."""

from tests.http.mutations import HOST, JSON

MALFORMED = {
    "http2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "http2 preface and frames": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(60), 505),
    "http 0.9": (b"GET /hi\r\n\r\n", 400),
    "http 3": (b"GET /hi HTTP/3.0\r\n" + HOST + b"\r\n", 505),
    "websocket": (
        b"GET /hi HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n\r\n",
        400,
    ),
    "TE and CL": (
        b"POST /echo HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: 3\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "TE and CL in a HEAD": (
        b"HEAD /hi HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "TE in 1.0": (b"POST /echo HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n", 400),
    "unknown TE": (b"POST /echo HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip\r\n\r\n", 501),
    "two lengths": (
        b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\n",
        400,
    ),
    "negative length": (b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n", 400),
    "chunk garbage": (
        b"POST /echo HTTP/1.1\r\n" + HOST + JSON + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        400,
    ),
    "chunk too long": (
        b"POST /echo HTTP/1.1\r\n" + HOST + JSON + b"Transfer-Encoding: chunked\r\n\r\n"
        b"2\r\nabcd\r\n0\r\n\r\n",
        400,
    ),
    "no host": (b"GET /hi HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET /hi HTTP/1.1\r\n" + HOST + HOST + b"\r\n", 400),
    "NUL": (b"GET /hi HTTP/1.1\r\n" + HOST + b"X: a\0b\r\n\r\n", 400),
    "only NULs": (bytes(100), 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40) + b"\r\n\r\n", 400),
    "bare CRs": (b"GET /hi HTTP/1.1\rHost: localhost\r\r\n\r\n", 400),
    "space in a name": (b"GET /hi HTTP/1.1\r\n" + HOST + b"X : a\r\n\r\n", 400),
    "huge header": (b"GET /hi HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 2_000_000, 431),
    "long target": (b"GET /" + b"a" * 2_000_000, 431),
}
