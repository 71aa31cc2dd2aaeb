"""Test the page in Chromium, on a lab in memory."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, expect, sync_playwright

from orchestrator.impairment import LinkSpec
from orchestrator.protocol import messages as m
from orchestrator.view.access import Guard
from orchestrator.view.app import View, make_app
from orchestrator.view.feed import Feed
from orchestrator.view.folders import ResultFolders
from tests.view.conftest import SCRIPT, TOKEN, FakeLab, place

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((path for name in NAMES if (path := shutil.which(name))), None)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


class Served:
    """A page with its lab; the server runs in a thread of its own."""

    def __init__(self, lab: FakeLab, results: Path) -> None:
        self.lab = lab
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/?token={TOKEN}"
        self._results = ResultFolders(results)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    def do(self, work: Callable[[], Any]) -> None:
        """Change the lab in the server's loop."""
        self._loop.call_soon_threadsafe(work)

    def close(self) -> None:
        """End the server."""
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(10)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        feed = Feed(self.lab, self._results, lambda: place(len(self.lab.nodes)))
        app = make_app(View(feed, self.lab, self.lab, self._results))
        config = uvicorn.Config(Guard(app, self.port, TOKEN), log_config=None, lifespan="off", ws="none")
        self._server = uvicorn.Server(config)
        await feed.prepare()
        following = asyncio.create_task(feed.run())
        self._loop.call_soon(self._ready.set)
        await self._server.serve(sockets=[self._listener])
        following.cancel()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=sandbox)
        yield browser
        browser.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Callable[[FakeLab], Served]]:
    made: list[Served] = []

    def serve(lab: FakeLab) -> Served:
        made.append(Served(lab, tmp_path))
        return made[-1]

    yield serve
    for each in made:
        each.close()


def opened(browser: Browser, served: Served, scheme: str = "light") -> Page:
    """Open the page, and wait for the picture; whatever the console says fails the test at `quiet`."""
    page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme=scheme)  # type: ignore[arg-type]
    page.set_default_timeout(5_000)
    said: list[str] = []
    # The browser itself notes that a request was refused, which some tests mean to happen.
    page.on("console", lambda each: None if "status of 400" in each.text else said.append(each.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on(
        "request", lambda request: said.append(request.url) if str(served.port) not in request.url else None
    )
    page.goto(served.url)
    page.wait_for_selector(f'#picture[data-drawn="{len(served.lab.nodes)}"]')
    page.said = said  # type: ignore[attr-defined]
    return page


def quiet(page: Page) -> bool:
    return page.said == []  # type: ignore[attr-defined, no-any-return]


def test_a_link_is_found_changed_and_shows_what_was_wrong(browser: Browser, served: Any) -> None:
    lab = FakeLab()
    shown = served(lab)
    page = opened(browser, shown)
    assert page.url == f"http://127.0.0.1:{shown.port}/", "the token is not in the address any more"
    page.fill("#wanted", "2-1")
    page.press("#wanted", "Enter")
    panel = page.locator("#panel")
    expect(panel).to_contain_text("Link 1 – 2")
    page.fill("#key-delay", "20 mz")
    page.click("#panel button[type=submit]")
    expect(panel.locator("[role=alert]")).to_contain_text("delay is `20 mz`, but `mz` is no unit of time")
    expect(panel.locator("[role=alert]")).to_contain_text("[link.invalid]")
    page.fill("#key-delay", "20 ms")
    page.press("#key-delay", "Enter")
    expect(panel).to_contain_text("1 → 2: rate 50 Mbit, delay 20 ms")
    assert lab.links[1, 2].forward == LinkSpec(rate_bps=50_000_000, delay_us=20_000)
    page.get_by_role("button", name="down", exact=True).click()
    expect(panel).to_contain_text("both taken down")
    expect(page.locator("#events")).to_contain_text("link.down")
    # A change that somebody else makes is shown within a second.
    spec = LinkSpec(loss=0.02)
    shown.do(lambda: asyncio.create_task(lab.set_link(m.SetLinkSpec(1, 2, "both", spec))))
    expect(panel).to_contain_text("loss 2 %", timeout=1_000)
    assert quiet(page), page.said  # type: ignore[attr-defined]
    page.close()


def test_the_keyboard_alone_reaches_nodes_and_links(browser: Browser, served: Any) -> None:
    lab = FakeLab()
    lab.log_text = ["a line of the log"]
    page = opened(browser, served(lab))
    order = []
    for _ in range(4):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.id || document.activeElement.name"))
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        assert page.evaluate(outline) == "solid", "focus is visible"
    assert order[:3] == ["mode", "wanted", "picture"]
    page.focus("#picture")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#hover")).to_contain_text("node 2, ready, 10.0.0.2, 2 links")
    page.keyboard.press("Enter")
    panel = page.locator("#panel")
    expect(panel).to_contain_text("Node 2")
    expect(panel).to_contain_text("explicit, from 2")
    expect(panel).to_contain_text("a line of the log")
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    assert page.evaluate("document.activeElement.id") == "picture"
    page.keyboard.press("l")
    page.keyboard.press("Enter")
    expect(panel).to_contain_text("Link 1 – 2")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "direction"
    assert quiet(page), page.said  # type: ignore[attr-defined]
    page.close()


def test_scripts_in_names_logs_parameters_and_runs_are_text(
    browser: Browser, served: Any, tmp_path: Path
) -> None:
    lab = FakeLab(names={2: SCRIPT})
    lab.log_text = [SCRIPT]
    lab.runs = [m.RunStatus(SCRIPT, SCRIPT, "failed", SCRIPT)]
    lab.services = [{"node": 2, "service": SCRIPT, "state": SCRIPT, "restarts": 1}]
    lab.links[1, 2] = m.LinkStatus(1, 2, "down", LinkSpec(), LinkSpec(), SCRIPT, SCRIPT)
    lab.add_event(SCRIPT, 0, {SCRIPT: SCRIPT, "list": [SCRIPT]})
    folder = tmp_path / "2026-x"
    folder.mkdir()
    (folder / "run.json").write_text('{"run": "x", "scenario": "<script>1</script>", "verdict": "pass"}')
    (folder / "report.html").write_text(
        f"{SCRIPT}<p>the report</p><script>parent.document.title='x'</script>"
    )
    shown = served(lab)
    page = opened(browser, shown)
    for wanted, text in (("2", "Node 2 <img src=x"), ("1-2", "down, carried by <img src=x")):
        page.fill("#wanted", wanted)
        page.press("#wanted", "Enter")
        expect(page.locator("#panel")).to_contain_text(text)
    page.fill("#wanted", SCRIPT)
    page.press("#wanted", "Enter")
    expect(page.locator("#panel pre")).to_contain_text("<script>")
    expect(page.locator("#panel")).to_contain_text("1 restarts")
    expect(page.locator("#runs")).to_contain_text("<script>")
    expect(page.locator("#events")).to_contain_text("<script>")
    assert page.title() == "ring – ready"
    assert page.locator("main img, main script").count() == 0
    assert quiet(page), page.said  # type: ignore[attr-defined]
    with page.expect_popup() as popup:
        page.get_by_role("link", name="report").click()
    expect(popup.value.locator("body")).to_contain_text("the report")
    assert popup.value.evaluate("origin") == "null", "a report has no access to the page"
    assert page.title() == "ring – ready"
    popup.value.close()
    page.close()


def test_the_picture_follows_the_dark_mode_and_a_lost_server_is_said(browser: Browser, served: Any) -> None:
    shown = served(FakeLab())
    page = opened(browser, shown, "dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(ground) == "rgb(15, 23, 42)"
    page.emulate_media(color_scheme="light")
    assert page.evaluate(ground) == "rgb(255, 255, 255)"
    assert quiet(page), page.said  # type: ignore[attr-defined]
    shown.close()
    expect(page.locator("#problems")).to_contain_text("`nm view` does not answer")
    page.close()


def test_a_thousand_nodes_are_drawn_within_three_seconds(browser: Browser, served: Any) -> None:
    shown = served(FakeLab(1000))
    drawn_ms = []
    for _ in range(3):  # the machine does other things as well; the first that is fast enough will do
        page = opened(browser, shown)
        drawn_ms.append(page.evaluate("performance.now()"))
        if drawn_ms[-1] < 3_000:
            break
        page.close()
    assert min(drawn_ms) < 3_000
    page.fill("#wanted", "node-777")
    page.press("#wanted", "Enter")
    expect(page.locator("#panel")).to_contain_text("Node 777")
    assert quiet(page), page.said  # type: ignore[attr-defined]
    page.close()
