"""The dashboard in a real browser: `make test-browser`. Needs a Chromium; nothing else does."""

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest

from maxd.daemon.chronicle import Seen
from maxd.daemon.status import LimitStatus, Status
from tests.daemon.telling import NOW, status, worker
from tests.end_to_end.browser import Page, find_browser, open_page
from tests.end_to_end.running import DaemonProcess, LoopbackProcess, directive

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        "MAXD_BROWSER" not in os.environ, reason="opt-in: make test-browser sets MAXD_BROWSER"
    ),
]

SCREENSHOT = os.environ.get("MAXD_BROWSER_SCREENSHOT")
SHOWN = "!document.getElementById('main').hidden"


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    assert find_browser() is not None, "install Chromium: apt-get install chromium"
    with open_page(tmp_path / "browser") as page:
        yield page


@pytest.fixture(scope="module")
def daemon(
    _model: LoopbackProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DaemonProcess]:
    with DaemonProcess(tmp_path_factory.mktemp("shown"), _model.base_url) as daemon:
        daemon.wait_serving().wait_log("worker ready")
        yield daemon
        daemon.stop()


def ask(daemon: DaemonProcess, text: str) -> int:
    body = {"model": "sonnet:chat", "messages": [{"role": "user", "content": text}]}
    return httpx.post(f"{daemon.base_url}/v1/chat/completions", json=body, timeout=60).status_code


def test_it_is_live_and_calm(daemon: DaemonProcess, page: Page) -> None:
    page.look(width=1280, height=1100)
    page.open(f"{daemon.base_url}/")
    page.wait(SHOWN)
    page.wait("document.getElementById('workers').rows.length > 0")
    assert page.text("#state") == "serving"
    assert ask(daemon, directive(text="canary-4711")) == 200
    page.wait("document.getElementById('totals').innerText.includes('1 finished')")
    page.wait("document.getElementById('events').innerText.includes('finished')")
    page.wait("document.querySelectorAll('#requests-plot rect').length > 0")
    assert ask(daemon, directive(status=529)) >= 400
    page.wait("document.getElementById('errors').innerText.includes('req_')")
    assert "canary-4711" not in page.run("document.documentElement.outerHTML")
    assert page.console == [], "nothing was refused by its own policy, and nothing failed"
    assert page.requested
    assert all(url.startswith(daemon.base_url) for url in page.requested)
    if SCREENSHOT is not None:
        for words in (8, 20, 45, 30):
            ask(daemon, directive(words=words, pace=0.03))
        page.wait("document.getElementById('totals').innerText.includes('5 finished')")
        page.wait("document.getElementById('workers').innerText.includes('MB')")
        page.screenshot(Path(SCREENSHOT))


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 820, 1280])
def test_it_can_be_read(daemon: DaemonProcess, page: Page, width: int, dark: bool) -> None:
    page.look(width=width, height=900, dark=dark)
    page.open(f"{daemon.base_url}/")
    page.wait(SHOWN)
    page.wait("document.getElementById('workers').rows.length > 0")
    assert page.run("document.documentElement.scrollWidth") <= width, "it scrolls down only"
    assert page.run(LEAST_CONTRAST) >= 4.5
    ground = page.run("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground[4:-1].split(","))) < 200) is dark


# Of all elements that show text: its colour against the nearest ground behind it (WCAG 2).
LEAST_CONTRAST = """
(() => {
  const light = (colour) => {
    const parts = colour.match(/[0-9.]+/g).slice(0, 3).map((part) => part / 255)
      .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const colour = getComputedStyle(node).backgroundColor;
      if (colour !== "rgba(0, 0, 0, 0)") return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const ratios = [...document.querySelectorAll("body *")]
    .filter((node) => node.getClientRects().length
      && [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim()))
    .map((node) => {
      const style = getComputedStyle(node);
      const colour = node instanceof SVGElement ? style.fill : style.color;
      const [a, b] = [light(colour), light(ground(node))];
      return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    });
  return Math.min(...ratios);
})()
"""


def test_it_can_be_used_without_a_mouse_and_without_eyes(daemon: DaemonProcess, page: Page) -> None:
    page.open(f"{daemon.base_url}/")
    page.wait(SHOWN)
    assert page.run("document.documentElement.lang") == "en"
    assert page.run("document.querySelectorAll('section:not([aria-labelledby])').length") == 0
    assert page.run("document.querySelectorAll('[role=img]:not([aria-label])').length") == 0
    assert page.run("document.querySelectorAll('th:not([scope])').length") == 0
    page.run("document.querySelector('summary').focus()")
    page.press_enter()
    page.wait("document.querySelector('details').open")
    assert "server.port" in page.text("#config")


def test_it_comes_back_when_the_daemon_does(
    tmp_path: Path, model: LoopbackProcess, page: Page
) -> None:
    root = tmp_path / "daemon"
    root.mkdir()
    with DaemonProcess(root, model.base_url) as first:
        first.wait_serving()
        page.open(f"{first.base_url}/")
        page.wait(SHOWN)
        assert first.stop() == 0
    page.wait("document.getElementById('state').innerText === 'unreachable'")
    port = first.base_url.rpartition(":")[2]
    with DaemonProcess(root, model.base_url, {"MAXD_SERVER_PORT": port}) as second:
        second.wait_serving()
        page.wait("document.getElementById('state').innerText === 'serving'")
        assert second.stop() == 0


# What this daemon does not say by itself: given to the page as if it had

HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>"


def given(page: Page, shown: Status) -> None:
    """Cut the page off from its daemon, and show it this."""
    page.wait(SHOWN)
    page.run("fetch = () => new Promise(() => {}); reading.abort()")
    page.run(f"show({msgspec.json.encode(shown).decode()})")


def test_limits_are_bars_with_the_time_of_their_reset(daemon: DaemonProcess, page: Page) -> None:
    page.open(f"{daemon.base_url}/")
    given(page, status())
    assert "five_hour" in page.text("#limits")
    assert "42 % · allowed" in page.text("#limits")
    assert "resets in 2 h 5 min" in page.text("#limits")
    meters = "[...document.querySelectorAll('[role=meter]')].map(bar => bar.ariaValueNow)"
    assert page.run(meters) == ["42", "100"]
    assert page.run(f"({LEAST_CONTRAST})") >= 4.5


def test_a_hostile_name_is_text(daemon: DaemonProcess, page: Page) -> None:
    page.open(f"{daemon.base_url}/")
    shown = status(
        version=HOSTILE,
        problem=HOSTILE,
        workers=(worker(model=HOSTILE, conversation=HOSTILE, id=HOSTILE, state=HOSTILE),),
        limits=(LimitStatus(window=HOSTILE, status=HOSTILE, utilization=0.5, resets_at=NOW),),
        errors=(Seen(at=NOW, what=HOSTILE, code=HOSTILE, reason=HOSTILE),),
        config={HOSTILE: [HOSTILE]},
    )
    shown.totals.kills_by_reason = {HOSTILE: 1}
    given(page, shown)
    for selector in ("#problem", "#workers", "#limits", "#errors", "#totals", "#about"):
        assert HOSTILE in page.text(selector)
    assert page.run("document.querySelectorAll('body img, body script, [onerror]').length") == 0
    assert page.console == []


def test_its_policy_stops_a_script_that_got_in(daemon: DaemonProcess, page: Page) -> None:
    page.open(f"{daemon.base_url}/")
    page.wait(SHOWN)
    page.run(
        "document.body.append(Object.assign(document.createElement('script'),"
        " {textContent: 'window.owned = 1'}))"
    )
    assert page.run("window.owned === undefined")
    assert "Content Security Policy" in page.console[0]


def test_it_asks_for_a_key_where_one_is_wanted(daemon: DaemonProcess, page: Page) -> None:
    page.open(f"{daemon.base_url}/")
    page.wait(SHOWN)
    page.run(
        """{ const real = fetch; fetch = (url, options) =>
          options.headers.authorization === 'Bearer right' ? real(url, options)
          : Promise.resolve(new Response('', {status: 401})); }
        reading.abort()"""
    )
    page.wait("!document.getElementById('key').hidden")
    assert page.run("document.getElementById('main').hidden")
    enter = "at('key-text').value = '{}'; at('key').requestSubmit()"
    page.run(enter.format("wrong"))
    page.wait("document.getElementById('link').innerText === 'that key was refused'")
    page.run(enter.format("right"))
    page.wait(SHOWN)
    assert page.run("document.getElementById('key').hidden")
