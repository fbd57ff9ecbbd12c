"""Sockets that were handed over, in descriptors as they come."""

import os
import socket

import pytest

from maxd.daemon.inherited import NotASocket, inherited_sockets

FIRST = 400


def hand_over(*socks: socket.socket) -> None:
    for number, sock in enumerate(socks):
        os.dup2(sock.fileno(), FIRST + number)


def variables(count: object, names: str = "", pid: object = None) -> dict[str, str]:
    return {
        "LISTEN_PID": str(os.getpid() if pid is None else pid),
        "LISTEN_FDS": str(count),
        "LISTEN_FDNAMES": names,
    }


def test_tcp_and_unix_sockets_with_their_names() -> None:
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(b"\0maxd-inherited-" + str(os.getpid()).encode())
        unix.listen()
        hand_over(tcp, unix)
        found = inherited_sockets(variables(2, "maxd.socket:admin"), first=FIRST)
        assert [each.name for each in found] == ["maxd.socket", "admin"]
        assert found[0].sock.getsockname() == tcp.getsockname()
        assert [each.sock.family for each in found] == [socket.AF_INET, socket.AF_UNIX]
        for each in found:
            assert not each.sock.get_inheritable()
            each.sock.close()


@pytest.mark.parametrize(
    "environ",
    [{}, variables(1, pid=1), variables(""), variables("-1"), {"LISTEN_FDS": "1"}],
)
def test_what_was_meant_for_another_process_is_left_alone(environ: dict[str, str]) -> None:
    assert inherited_sockets(environ) == []


def test_a_socket_without_a_name() -> None:
    with socket.create_server(("127.0.0.1", 0)) as tcp:
        hand_over(tcp)
        (found,) = inherited_sockets(variables(1), first=FIRST)
        assert found.name == ""
        found.sock.close()


def test_what_cannot_be_listened_on() -> None:
    with socket.socket() as plain, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        for sock in (plain, datagrams):
            hand_over(sock)
            with pytest.raises(NotASocket):
                inherited_sockets(variables(1), first=FIRST)
    os.close(FIRST)
    with pytest.raises(NotASocket):
        inherited_sockets(variables(1), first=FIRST)
