"""One loopback model for all tests here, and daemons for those that leave them as they were."""

from collections.abc import Iterator

import anthropic
import openai
import pytest

from tests.end_to_end.messaging import CHAT
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


@pytest.fixture(scope="session")
def chat_daemon(
    _model: LoopbackProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DaemonProcess]:
    """One whose workers go on from turn to turn: nobody asks it for another model than CHAT, the
    spares of which would take their room."""
    root = tmp_path_factory.mktemp("chat_daemon")
    with DaemonProcess(root, _model.base_url, {"MAXD_POOL_WARM": CHAT}) as daemon:
        yield daemon.wait_serving()
        assert daemon.stop() == 0


@pytest.fixture
def claude(chat_daemon: DaemonProcess) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(
        base_url=chat_daemon.base_url, api_key="not-needed", max_retries=0, timeout=60.0
    ) as client:
        yield client
