"""UNIX sockets: for this user alone, and what is done about what lies in their place."""

import socket
import stat
from pathlib import Path

import pytest

from maxd.daemon.settings import Server
from maxd.http.listeners import LONGEST_PATH, SocketTaken, describe, open_listeners


def test_a_unix_socket_is_for_this_user_alone_and_goes_with_its_maker(tmp_path: Path) -> None:
    path = tmp_path / "maxd.sock"
    listeners = open_listeners(Server(port=0, unix_socket=str(path)), {})
    assert len(listeners.main) == 2
    assert listeners.where.startswith("http://127.0.0.1:")
    assert describe(listeners.main[1]) == f"unix:{path}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not any(sock.get_inheritable() for sock in listeners.main)
    listeners.close()
    assert not path.exists()


def test_what_an_earlier_run_has_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "maxd.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    listeners = open_listeners(Server(port=0, admin_socket=str(path)), {})
    assert len(listeners.admin) == 1
    # Somebody else's by now.
    path.unlink()
    path.write_text("mine")
    listeners.close()
    assert path.read_text() == "mine"


def test_what_lives_is_not(tmp_path: Path) -> None:
    path = tmp_path / "maxd.sock"
    with socket.socket(socket.AF_UNIX) as alive:
        alive.bind(str(path))
        alive.listen()
        with pytest.raises(SocketTaken, match="another program"):
            open_listeners(Server(port=0, unix_socket=str(path)), {})
    path.unlink()
    path.write_text("a file")
    with pytest.raises(SocketTaken, match="no socket"):
        open_listeners(Server(port=0, unix_socket=str(path)), {})
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SocketTaken, match="no socket"):
        open_listeners(Server(port=0, unix_socket=str(path)), {})


def test_a_path_that_is_too_long_or_has_no_folder(tmp_path: Path) -> None:
    with pytest.raises(SocketTaken, match="too long"):
        open_listeners(Server(port=0, unix_socket="/" + "x" * LONGEST_PATH), {})
    with pytest.raises(OSError, match="No such file"):
        open_listeners(Server(port=0, unix_socket=str(tmp_path / "none/s")), {})


def test_describe_ipv6() -> None:
    try:
        sock = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 on this machine")
    with sock:
        assert describe(sock) == f"http://[::1]:{sock.getsockname()[1]}"
