"""One loopback model for all tests here, and one daemon for those that leave it as it was."""

from collections.abc import Iterator

import openai
import pytest

from tests.end_to_end.running import DaemonProcess, LoopbackProcess, loopback_process


@pytest.fixture(scope="session")
def _model() -> Iterator[LoopbackProcess]:
    with loopback_process() as model:
        yield model


@pytest.fixture
def model(_model: LoopbackProcess) -> LoopbackProcess:
    """The loopback model, with nothing recorded."""
    _model.forget()
    return _model


@pytest.fixture(scope="session")
def shared_daemon(
    _model: LoopbackProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DaemonProcess]:
    """A daemon that every test may use and none may end."""
    with DaemonProcess(tmp_path_factory.mktemp("daemon"), _model.base_url) as daemon:
        yield daemon.wait_serving()
        assert daemon.stop() == 0


@pytest.fixture
def client(shared_daemon: DaemonProcess) -> Iterator[openai.OpenAI]:
    with shared_daemon.client() as client:
        yield client
