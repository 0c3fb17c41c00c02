"""The report in a real browser: headless Chromium, driven through its own debugging protocol."""

import asyncio
import base64
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.questions import append_csv
from tests.support.runs import ScriptedRun

pytestmark = pytest.mark.soak
CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
PLANTED = "<img src=x onerror=\"document.title='planted'\"></script><script>document.title='planted'</script>"

LOADED = "new Promise((done) => document.readyState === 'complete' ? done() : addEventListener('load', done))"


class Page:
    """One tab. said: what its console and its loader had to say."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._number = socket, 0
        self.said: list[dict[str, Any]] = []

    async def ask(self, method: str, **given: Any) -> dict[str, Any]:
        """One command of the protocol, and its result."""
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": given})
        while True:
            message = json.loads((await self._socket.receive(timeout=60)).data)
            if message.get("id") == self._number:
                assert "error" not in message, message
                return dict(message["result"])
            self.said.append(message)

    async def value(self, script: str) -> Any:
        """What an expression is."""
        found = await self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")


@asynccontextmanager
async def opened(port: int, url: str, width: int = 1200, scheme: str = "light") -> AsyncIterator[Page]:
    """A page in a window of this width."""
    async with aiohttp.ClientSession() as session:
        async with session.put(f"http://127.0.0.1:{port}/json/new?about:blank") as new:
            tab = await new.json()
        async with session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0) as socket:
            page = Page(socket)
            for domain in ("Page", "Runtime", "Log", "Network"):
                await page.ask(f"{domain}.enable")
            screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
            await page.ask("Emulation.setDeviceMetricsOverride", **screen)
            await page.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            await page.ask("Page.navigate", url=url)
            await page.value(f"location.href === {json.dumps(url)} || Promise.reject(location.href)")
            await page.value(LOADED)
            yield page


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A running browser's debugging port."""
    if not CHROMIUM:
        pytest.skip("there is no Chromium here: apt install chromium")
    profile = tmp_path_factory.mktemp("profile")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", f"--user-data-dir={profile}"]
    browser = subprocess.Popen([CHROMIUM, *options, "about:blank"], stderr=subprocess.PIPE, text=True)
    try:
        assert browser.stderr is not None
        line = next(line for line in browser.stderr if "DevTools listening on" in line)
        yield int(line.split("://", 1)[1].split(":")[1].split("/")[0])
    finally:
        browser.terminate()
        browser.wait(20)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, ray_cluster: dict[str, str]) -> Path:
    """The report of a run with several voters and a planted script."""
    run = ScriptedRun(tmp_path_factory.mktemp("report"), 120)
    append_csv(run.csv, ("planted", f"needle {PLANTED}", ["a", f"b {'wide' * 200}"], "A"))
    voters = ("voters.cyclic={model: m, readings: cyclic}", "voters.verify={model: m, method: verify}")
    done = run.run(*voters)
    assert done.code == 0, done.err
    return run.out / "report.html"


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (390, "dark"), (1200, "light"), (1200, "dark")])
def test_the_report_opens_everywhere(port: int, report: Path, tmp_path: Path, width: int, scheme: str) -> None:
    async def look() -> None:
        async with opened(port, report.as_uri(), width, scheme) as page:
            assert await page.value("document.documentElement.scrollWidth") <= width, "it scrolls sideways"
            dark = await page.value("getComputedStyle(document.body).backgroundColor")
            assert (sum(map(int, dark.strip("rgb()").split(","))) < 200) == (scheme == "dark")
            assert await page.value("document.querySelectorAll('details.question').length") == 25
            shot = await page.ask("Page.captureScreenshot", captureBeyondViewport=True)
            (tmp_path / f"report-{width}-{scheme}.png").write_bytes(base64.b64decode(shot["data"]))
            _quiet(page)

    asyncio.run(look())


def test_search_finds_a_question_and_runs_nothing_in_it(port: int, report: Path) -> None:
    search = """(async () => {
        const search = document.getElementById("search");
        const questions = () => [...document.querySelectorAll("details.question")];
        const until = async (holds) => { while (!holds()) await new Promise((done) => setTimeout(done, 20)); };
        search.value = "NEEDLE"; search.dispatchEvent(new Event("input"));
        await until(() => questions().length == 1);
        const [found] = questions();
        found.open = true;
        await until(() => found.querySelector("pre"));
        return [found.querySelector("pre").textContent, document.title];
    })()"""

    async def look() -> None:
        async with opened(port, report.as_uri(), 390) as page:
            text, title = await asyncio.wait_for(page.value(search), 60)
            assert text.startswith("needle <img src=x onerror=")
            assert "planted" not in title
            assert await page.value("document.images.length") == 0
            assert await page.value("document.documentElement.scrollWidth") <= 390
            _quiet(page)

    asyncio.run(look())


def test_two_voters_side_by_side_lead_to_their_questions(port: int, report: Path) -> None:
    press = """(key) => document.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }))"""
    look = """(async () => {
        const shown = () => Number(document.getElementById("found").textContent.split(" ")[0].replace(",", ""));
        const buttons = [...document.querySelectorAll("#compared button")];
        const counts = buttons.slice(0, 8).map((button) => {
            const count = Number(button.textContent.replace(",", ""));
            button.click();
            return [count, shown()];
        });
        document.getElementById("filter").value = "all";
        document.getElementById("filter").dispatchEvent(new Event("change"));
        document.activeElement.blur();
        const press = PRESS;
        press("n");
        const place = document.getElementById("place").textContent;
        press("j");
        const focused = document.activeElement.parentElement.className;
        document.body.focus();
        press("/");
        return [counts, place, focused, document.activeElement.id, document.querySelectorAll("button.copy").length];
    })()""".replace("PRESS", press)

    async def looked() -> None:
        async with opened(port, report.as_uri()) as page:
            counts, place, focused, active, copies = await page.value(look)
            assert counts
            assert all(said == found > 0 for said, found in counts)
            assert (place, focused, active) == ("page 2 of 5", "question", "search")
            assert copies == await page.value("document.querySelectorAll('.wide.copied').length") > 5
            assert await page.value("document.querySelector('#compare').hidden") is False
            _quiet(page)

    asyncio.run(looked())


def _quiet(page: Page) -> None:
    """No console error, and nothing loaded but the page itself."""
    kinds = ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled")
    assert not [message for message in page.said if message.get("method") in kinds]
    asked = [m["params"]["request"]["url"] for m in page.said if m.get("method") == "Network.requestWillBeSent"]
    assert all(url.startswith("file:") for url in asked), asked
    assert len(set(asked)) <= 1
