"""Whatever comes in, what goes out has the one error shape and no trace of our insides."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.db import OperationalError
from django.test import Client

from agents.models import Channel, Release, Turn
from budgets.ledger import Unavailable
from console.api.resources import turns
from tests.console.api.conftest import Api, Issue, code

pytestmark = pytest.mark.django_db


def said(web: Channel, **changes: Any) -> dict[str, Any]:
    return {"agent": "acme", "channel": "web", "case": "4711", "message": "Hello", **changes}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"agent": ', (400, "malformed_json")),
        (b"", (400, "invalid")),
        (b"[]", (400, "invalid")),
        (b'"text"', (400, "invalid")),
        (b"null", (400, "invalid")),
        (b"NaN", (400, "malformed_json")),
        (b'{"case": "\xff\xfe"}', (400, "invalid_encoding")),
        (b'{"case": "\\ud800"}', (400, "malformed_json")),
        (b'{"message": "a\\u0000b"}', (400, "invalid")),
        (b'{"metadata": {"a\\u0000": 1}}', (400, "invalid")),
        (b'{"metadata": {"a": ["\\u0000"]}}', (400, "invalid")),
        (b'{"metadata": ' + b"[" * 100 + b"]" * 100 + b"}", (400, "invalid")),
        (b"[" * 100_000, (400, "malformed_json")),
        (b'{"metadata": {"n": 1e999}}', (400, "malformed_json")),
    ],
)
def test_what_is_not_proper_json_is_refused(api: Api, raw: bytes, expected: tuple[int, str]) -> None:
    assert code(api.post("turns", raw)) == expected
    assert not Turn.objects.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"message": ""},
        {"message": "   \n"},
        {"message": None},
        {"message": 7.5e10, "case": []},
        {"message": "x" * 20_001},
        {"case": ""},
        {"case": "x" * 201},
        {"language": "english"},
        {"metadata": "none"},
        {"callback_url": "ftp://example.com"},
        {"callback_url": "http://169.254.169.254/latest"},
        {"callback_url": "http://localhost:8000/"},
        {"callback_url": "http://[::1]/"},
        {"callback_url": "javascript:alert(1)"},
    ],
)
def test_fields_that_do_not_fit_are_named(api: Api, web: Channel, live: Release, changes: dict[str, Any]) -> None:
    response = api.post("turns", said(web, **changes))
    assert code(response) == (400, "invalid")
    error = response.json()["error"]
    named = set(error["details"]) | set(error["message"].split())
    assert named & set(changes), error
    assert not Turn.objects.exists()


@pytest.mark.parametrize(
    "changes", [{"agent": "nobody"}, {"channel": "nowhere"}, {"channel": "other/web"}, {"agent": "other"}]
)
def test_unknown_and_foreign_agents_and_channels_are_not_there(
    issue: Issue, web: Channel, foreign: Channel, changes: dict[str, str]
) -> None:
    assert code(issue(agent=web.agent).post("turns", said(web, **changes))) == (404, "not_found")
    assert not Turn.objects.exists()


def test_a_message_of_a_megabyte_is_too_large(api: Api, web: Channel, live: Release) -> None:
    assert code(api.post("turns", said(web, message="x" * 1_000_000))) == (413, "too_large")


def test_a_chunked_body_is_read_no_further_than_the_limit(api: Api, web: Channel, live: Release) -> None:
    raw = json.dumps(said(web, message="x" * 1_000_000))
    response = api.send("post", "turns", raw, transfer_encoding="chunked")
    assert code(response) == (413, "too_large")


@pytest.mark.parametrize(
    "content_type", ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x"]
)
def test_only_json_is_taken(api: Api, content_type: str) -> None:
    assert code(api.send("post", "turns", "a=b", content_type)) == (415, "unsupported_media_type")


def test_a_wrong_method_names_the_right_ones(api: Api) -> None:
    response = api.send("delete", "turns", "")
    assert code(response) == (405, "method_not_allowed")
    assert response.headers["Allow"] == "GET, POST, HEAD, OPTIONS"


@pytest.mark.parametrize(
    "path", ["", "nothing", "turns/", "turns/17", "turns/x", "scopes/x", "scopes/99999999999999999999"]
)
def test_what_is_not_there_is_said_in_the_same_shape(api: Api, path: str) -> None:
    assert code(api.get(path)) == (404, "not_found")
    assert code(Api().get("nothing")) == (404, "not_found")


def test_a_scope_without_a_release_answers_nobody(api: Api, web: Channel) -> None:
    assert code(api.post("turns", said(web))) == (409, "no_release")


def test_a_key_of_several_channels_has_to_name_one(api: Api, web: Channel, email: Channel) -> None:
    response = api.post("turns", {"case": "1", "message": "Hello"})
    assert code(response) == (400, "invalid")
    assert "name agent and channel" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("secret of ours"), (500, "internal_error")),
        (OperationalError("connection to server failed"), (503, "service_degraded")),
        (Unavailable("no redis"), (503, "service_degraded")),
    ],
)
def test_what_goes_wrong_inside_stays_inside(
    api: Api, web: Channel, monkeypatch: pytest.MonkeyPatch, error: Exception, expected: tuple[int, str]
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(turns.cases, "open_turn", broken)
    response = api.post("turns", said(web))
    assert code(response) == expected
    assert str(error) not in response.content.decode()
    assert ("Retry-After" in response.headers) == (expected[0] == 503)


def test_html_in_a_message_comes_back_as_json_text(api: Api, web: Channel, live: Release) -> None:
    hostile = "<script>alert(1)</script>"
    response = api.post("turns", said(web, message=hostile))
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.json()["message"] == hostile


def test_sessions_of_the_browser_do_not_open_the_api(django_user_model: Any) -> None:
    client = Client()
    client.force_login(django_user_model.objects.create_superuser("root"))
    assert code(client.get("/api/v1/turns")) == (401, "invalid_api_key")
