"""Versions, releases, deploying and rolling back through the door."""

from __future__ import annotations

from typing import Any

import pytest

from agents import snapshot
from agents.models import Channel, Deployment, Release, Version
from console.models import AuditEntry
from tests.console.api.conftest import Api, code, publish, scope_of


@pytest.fixture
def scope(web: Channel, live: Release) -> int:
    return scope_of(web).pk


def test_a_version_is_added_once_for_each_content(api: Any, live: Release) -> None:
    said = {"agent": "acme", "kind": "prompt", "content": {"text": "Be brief."}, "note": "Shorter"}
    response = api.post("versions", said)
    assert response.status_code == 201
    shown = response.json()
    assert (shown["number"], shown["author"], shown["content"]) == (2, f"key:{api.key.prefix}", {"text": "Be brief."})
    assert api.get(response.headers["Location"].removeprefix("/api/v1/")).json() == shown
    assert api.post("versions", said | {"note": "Again"}).json() == shown
    assert "content" not in api.walk("versions", kind="prompt")[0]


@pytest.mark.parametrize(
    ("kind", "content", "says"),
    [
        ("prompt", {}, "text is missing"),
        ("models", {"models": {}}, "at least one model"),
        ("models", {"models": {"gpt": {"base_url": "file:///etc/passwd"}}}, "http"),
        ("guardrails", {"actions": {"nothing": "block"}}, "Guardrail policy"),
        ("knowledge", {"documents": ["x"]}, "content hashes"),
    ],
)
def test_content_that_does_not_compile_is_refused_in_plain_words(
    api: Api, live: Release, kind: str, content: Any, says: str
) -> None:
    before = Version.objects.count()
    response = api.post("versions", {"agent": "acme", "kind": kind, "content": content})
    assert code(response) == (400, "invalid")
    assert says in response.json()["error"]["message"]
    assert Version.objects.count() == before


def test_a_release_takes_what_is_not_named_from_the_newest(api: Any, live: Release) -> None:
    api.post("versions", {"agent": "acme", "kind": "prompt", "content": {"text": "Be brief."}})
    response = api.post("releases", {"agent": "acme", "parts": {"prompt": 2}, "note": "Brief"})
    assert response.status_code == 201
    shown = response.json()
    assert shown["parts"] == {"prompt": 2, "knowledge": 1, "models": 1, "guardrails": 1, "edges": 1}
    assert shown["name"] == "acme@r2"
    assert api.get("releases/acme@r2").json() == api.get(f"releases/{shown['id']}").json() == shown
    assert Release.objects.latest("id").canary not in response.content.decode()


@pytest.mark.parametrize("parts", [{"prompt": 9}, {"colour": 1}, {"prompt": "x"}, {"prompt": 0}])
def test_a_release_of_what_is_not_there_is_refused(api: Api, live: Release, parts: Any) -> None:
    assert code(api.post("releases", {"agent": "acme", "parts": parts})) == (400, "invalid")
    assert Release.objects.count() == 1


def test_the_first_release_names_all_parts(api: Api, web: Channel) -> None:
    api.post("versions", {"agent": "acme", "kind": "prompt", "content": {"text": "Be brief."}})
    response = api.post("releases", {"agent": "acme", "parts": {"prompt": 1}})
    assert code(response) == (400, "invalid")
    assert "knowledge is missing" in response.json()["error"]["message"]


@pytest.mark.parametrize("name", ["acme@r2", "r2", "2", 2])
def test_a_release_is_deployed_by_any_of_its_names(api: Any, web: Channel, scope: int, name: Any) -> None:
    publish(web.agent, "Second")
    response = api.post(f"scopes/{scope}/deploy", {"release": name, "percent": 10, "reason": "Try"})
    assert response.status_code == 201
    shown = response.json()
    assert (shown["release"], shown["percent"], shown["kind"]) == ("acme@r2", 10, "canary")
    assert shown["actor"] == f"key:{api.key.prefix}"
    whole = api.get(f"scopes/{scope}").json()
    assert whole["live"] == shown
    assert (whole["stable"], whole["rollback_to"]) == ("acme@r1", "acme@r1")


@pytest.mark.parametrize("name", ["acme@r9", "r9", "other@r1", "x", "-1", "१", "9" * 60])
def test_an_unknown_release_is_not_deployed(api: Api, scope: int, name: str) -> None:
    assert code(api.post(f"scopes/{scope}/deploy", {"release": name})) == (404, "not_found")


@pytest.mark.parametrize("percent", [0, 101, -5, "many", 1.5])
def test_a_percentage_is_one_to_a_hundred(api: Api, web: Channel, scope: int, percent: Any) -> None:
    publish(web.agent, "Second")
    assert code(api.post(f"scopes/{scope}/deploy", {"release": "r2", "percent": percent})) == (400, "invalid")


def test_what_is_live_already_is_a_conflict(api: Api, scope: int) -> None:
    assert code(api.post(f"scopes/{scope}/deploy", {"release": "r1"})) == (409, "conflict")
    assert Deployment.objects.count() == 1


def test_rolling_back_goes_where_it_was(api: Any, web: Channel, scope: int) -> None:
    publish(web.agent, "Second")
    api.post(f"scopes/{scope}/deploy", {"release": "r2"})
    response = api.post(f"scopes/{scope}/rollback", {"reason": "Worse"})
    assert response.status_code == 201
    assert (response.json()["release"], response.json()["kind"]) == ("acme@r1", "rollback")
    rows = api.walk(f"scopes/{scope}/deployments", limit=1)
    assert [row["release"] for row in rows] == ["acme@r1", "acme@r2", "acme@r1"]


@pytest.mark.parametrize("to", ["", "r1"])
def test_rolling_back_to_where_one_is_is_a_conflict(api: Api, scope: int, to: str) -> None:
    response = api.post(f"scopes/{scope}/rollback", {"to": to})
    assert code(response) == (409, "conflict")
    assert Deployment.objects.count() == 1


def test_rolling_back_to_what_was_never_live_is_a_conflict(api: Api, web: Channel, scope: int) -> None:
    publish(web.agent, "Second")
    assert code(api.post(f"scopes/{scope}/rollback", {"to": "r2"})) == (409, "conflict")


@pytest.mark.django_db(transaction=True)
def test_a_rollback_raises_the_epoch_when_it_has_committed(api: Api, web: Channel, scope: int) -> None:
    publish(web.agent, "Second")
    api.post(f"scopes/{scope}/deploy", {"release": "r2"}, idempotency_key="a")
    before = snapshot.epoch()
    api.post(f"scopes/{scope}/rollback", idempotency_key="b")
    assert snapshot.epoch() == before + 1
    api.post(f"scopes/{scope}/rollback", idempotency_key="b")
    assert snapshot.epoch() == before + 1
    assert AuditEntry.objects.filter(action="deployment.rollback").count() == 1


def test_nobody_is_promoted_through_the_door(api: Api, scope: int) -> None:
    for path in (f"scopes/{scope}/promote", f"scopes/{scope}/stage"):
        assert api.post(path, {"stage": "expanded"}).status_code == 404


def test_knowledge_can_be_sent_whole_and_is_named_by_hash_from_then_on(api: Api, web: Channel) -> None:
    document = {"title": "Returns", "language": "en", "body": "You have 30 days to return an order."}
    made = api.post("versions", {"agent": "acme", "kind": "knowledge", "content": {"documents": [document]}})
    assert made.status_code == 201
    [sha] = made.json()["content"]["documents"]
    again = api.post("versions", {"agent": "acme", "kind": "knowledge", "content": {"documents": [sha]}})
    assert again.json()["id"] == made.json()["id"]


@pytest.mark.parametrize(
    ("documents", "says"),
    [
        (["0" * 64], "send it whole"),
        ([{"title": "x"}], "a title, a language and a body"),
        ([{"title": "x", "language": "en", "body": "y", "colour": "red"}], "no field colour"),
        ([7], "list of content hashes"),
    ],
)
def test_knowledge_that_cannot_be_stored_says_why(api: Api, web: Channel, documents: list[Any], says: str) -> None:
    response = api.post("versions", {"agent": "acme", "kind": "knowledge", "content": {"documents": documents}})
    assert response.status_code == 400
    assert says in response.json()["error"]["message"]
