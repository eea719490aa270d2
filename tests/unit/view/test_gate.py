"""One browser, under our name, by a token that works once."""

import pytest
from starlette.testclient import TestClient

from dawin_ray.view import make_app
from tests.unit.view.conftest import PORT, TOKEN

PATHS = [
    "/", "/look", "/sample", "/confusions", "/sql", "/sql?sql=SELECT+1", "/export?format=csv",
    "/image?dataset=tars&sample=x", "/static/view.js", "/nowhere", "//elsewhere.example/",
]  # fmt: skip


@pytest.fixture
def stranger(runs):
    """A browser without a cookie."""
    app = make_app(runs, TOKEN, PORT)
    return TestClient(app, base_url=f"http://127.0.0.1:{PORT}", follow_redirects=False)


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_shown_without_the_token(stranger, path):
    for token in ("", "token=", "token=wrong", "token=%00"):
        answer = stranger.get(f"{path}{'&' if '?' in path else '?'}{token}")
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers


def test_the_token_opens_once(stranger, runs):
    first = stranger.get(f"/?token={TOKEN}")
    assert first.status_code == 303
    assert first.headers["location"] == "/"
    cookie = first.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert TOKEN not in cookie
    assert stranger.get("/").status_code == 200
    stranger.cookies.clear()
    assert stranger.get(f"/?token={TOKEN}").status_code == 401
    stranger.cookies.set(f"dawin_ray_view_{PORT}", "guessed")
    assert stranger.get("/").status_code == 401


def test_the_token_is_not_used_up_by_a_look_ahead(stranger):
    assert stranger.head(f"/?token={TOKEN}").status_code == 401
    assert stranger.get(f"/look?token={TOKEN}").status_code == 401
    assert stranger.get(f"/?token={TOKEN}").status_code == 303


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8123", "127.0.0.1.evil.example:80", "", "127.0.0.1"]
)
def test_another_host_name_is_refused(client, host):
    assert client.get("/", headers={"host": host}).status_code == 403


@pytest.mark.parametrize("host", ["127.0.0.1:1", "localhost:8123", "[::1]:8123", "LOCALHOST:9"])
def test_our_names_are_let_in_under_any_port(client, host):
    # as through a tunnel; the cookie goes by hand, as the test's jar knows one name
    cookies = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    assert client.get("/", headers={"host": host, "cookie": cookies}).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_only_looking_is_answered(client, method):
    assert client.request(method, "/").status_code == 405


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_pages_of_others_get_nothing(client, site):
    asked = {"sec-fetch-site": site, "sec-fetch-mode": "no-cors"}
    assert client.get("/image?dataset=tars&sample=x", headers=asked).status_code == 403
    assert client.get("/", headers=asked | {"sec-fetch-mode": "navigate"}).status_code == 200


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_has_the_headers(client, path):
    for answer in (client.get(path), client.get(path, headers={"host": "evil.example"})):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers
