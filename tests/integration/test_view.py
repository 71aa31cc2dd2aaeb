"""Test the page of `nm view` on a real lab."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.cookiejar import CookieJar
from typing import Any

from orchestrator.testing.plugin import Labs
from tests.integration.conftest import RING, Nm


def changes(stream: Any) -> Iterator[dict[str, Any]]:
    """Yield what a page is sent."""
    for line in stream:
        if line.startswith(b"data: "):
            yield json.loads(line[6:])


def test_the_page_of_a_lab_follows_it_and_changes_it(labs: Labs, nm: Nm) -> None:
    lab = labs.up(RING)
    command = nm.start("view", "--no-open", "-o", "json")
    try:
        assert command.stdout is not None
        text = command.stdout.readline()
        while not text.endswith("}\n"):
            text += command.stdout.readline()
        address = json.loads(text)
        base = f"http://127.0.0.1:{address['port']}"
        for wrong, status in (("", 401), ("?token=wrong", 403)):
            try:
                urllib.request.urlopen(f"{base}/{wrong}", timeout=10)
                raise AssertionError("it was answered")
            except urllib.error.HTTPError as error:
                assert error.code == status
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
        assert b"<title>nm view</title>" in browser.open(address["url"], timeout=10).read()
        with browser.open(f"{base}/api/stream", timeout=20) as stream:
            sent = changes(stream)
            assert len(next(sent)["all"]["at"]) == 4
            lab.link(1, 2).set(delay="33 ms")
            shown = next(each for each in sent if "links" in each.get("set", {}))
            assert "delay 33 ms" in shown["set"]["links"]["1-2"]["forward"]["words"]
            # What the page asks for is done in the lab, and traffic is measured.
            body = json.dumps({"values": {"rate": "8 Mbit"}}).encode()
            asked = urllib.request.Request(
                f"{base}/api/links/1/2", body, {"content-type": "application/json"}
            )
            assert json.loads(browser.open(asked, timeout=10).read())["forward"]["rate_bps"] == 8_000_000
            assert lab.node(1).run(["ping", "-c", "20", "-i", "0.1", "-s", "1000", "node-2"]).ok
            measured = next(each for each in sent if "1>2" in each.get("set", {}).get("measured", {}))
            assert 0 < measured["set"]["measured"]["1>2"]["load"] < 1
        node = json.loads(browser.open(f"{base}/api/nodes/1", timeout=10).read())
        assert {"to": 2, "from": 0, "via": [2], "explicit": False} in node["routes"]
        assert node["counters"]["packets_out"] >= 1
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            refused = nm("view", "--no-open", "--port", taken.getsockname()[1], "-o", "json")
            assert (refused.code, refused.error["id"]) == (4, "view.port")
    finally:
        command.terminate()
        assert command.wait(10) == 130
