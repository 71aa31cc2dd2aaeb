"""Test who may ask for the page, and what a browser is told about the answers."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from tests.view.conftest import PORT, TOKEN

PATHS = ("/", "/assets/main.js", "/api/nodes/1", "/api/stream", "/reports/r1")


@pytest.mark.parametrize("path", PATHS)
def test_without_the_token_nothing_is_shown(client: TestClient, path: str) -> None:
    del client.headers["authorization"]
    answer = client.get(path)
    assert answer.status_code == 401
    assert "view.no-token" in answer.text and TOKEN not in answer.text


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("wrong", ["x", "", "right-token2"])
def test_with_a_wrong_token_nothing_is_shown(client: TestClient, path: str, wrong: str) -> None:
    client.headers["authorization"] = f"Bearer {wrong}"
    assert client.get(path).status_code == 403
    del client.headers["authorization"]
    assert client.get("/", params={"token": wrong + "ä"}).status_code == 403
    client.cookies.set(f"nm-view-{PORT}", "wrong")
    assert client.get(path).status_code == 403


def test_the_first_visit_puts_the_token_into_a_cookie_that_scripts_cannot_read(client: TestClient) -> None:
    del client.headers["authorization"]
    answer = client.get("/", params={"token": TOKEN}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and f"nm-view-{PORT}=" in cookie
    assert client.get("/").status_code == 200
    assert client.get("/api/nodes/1").status_code == 200


@pytest.mark.parametrize("host", ["evil.example", f"evil.example:{PORT}", "127.0.0.1", "127.0.0.1:1", ""])
def test_a_name_that_was_made_to_point_to_loopback_is_refused(client: TestClient, host: str) -> None:
    for path in ("/", f"/?token={TOKEN}", "/api/nodes/1"):
        answer = client.get(path, headers={"host": host}, follow_redirects=False)
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers


def test_another_site_cannot_change_the_lab(client: TestClient) -> None:
    body = {"values": {"delay": "1 ms"}}
    foreign = client.post("/api/links/1/2", json=body, headers={"origin": "http://evil.example"})
    assert (foreign.status_code, foreign.json()["error"]["id"]) == (403, "view.origin")
    form = client.post("/api/links/1/2", data={"action": "down"})
    assert (form.status_code, form.json()["error"]["id"]) == (415, "view.content-type")
    own = client.post("/api/links/1/2", json=body, headers={"origin": f"http://127.0.0.1:{PORT}"})
    assert own.status_code == 200


def test_every_answer_allows_no_scripts_but_files_of_ours(client: TestClient) -> None:
    for path in ("/", "/assets/main.js", "/api/nodes/1", "/nothing", "/api/nodes/99"):
        headers = client.get(path).headers
        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert (policy["default-src"], policy["script-src"]) == ("'none'", "'self'")
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
