"""Who may come in, and with which scope to which door."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from console.models import ApiKey
from tests.console.api.conftest import Api, Issue, code

NOW = timezone.now()


@pytest.mark.parametrize("secret", ["", "ph_unknown", "ph_ünbekannt", "\udcff", " "])
@pytest.mark.django_db
def test_without_a_known_key_nobody_comes_in(secret: str) -> None:
    response = Api(secret).get("turns")
    assert code(response) == (401, "invalid_api_key")
    assert response.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("fields", [{"revoked_at": NOW}, {"expires_at": NOW - timedelta(seconds=1)}])
def test_revoked_and_expired_keys_are_refused(issue: Issue, fields: dict[str, Any]) -> None:
    assert code(issue(**fields).get("turns")) == (401, "invalid_api_key")


def test_a_key_that_expires_later_is_good(issue: Issue) -> None:
    assert issue(expires_at=NOW + timedelta(hours=1)).get("turns").status_code == 200


@pytest.mark.django_db
def test_another_scheme_is_refused(api: Api) -> None:
    assert code(Api().send("get", "turns", "", authorization="Basic YTpi")) == (401, "invalid_api_key")


def test_the_use_of_a_key_is_noted_once_a_minute(issue: Issue, django_assert_num_queries: Any) -> None:
    api = issue()
    api.get("key")
    noted = ApiKey.objects.get().last_used_at
    assert noted is not None
    with django_assert_num_queries(1):
        api.get("key")
    assert ApiKey.objects.get().last_used_at == noted


NOWHERE = "00000000-0000-4000-8000-000000000000"
DOORS = [
    ("get", "turns", {"turns", "read"}),
    ("get", f"turns/{NOWHERE}", {"turns", "read"}),
    ("post", "turns", {"turns"}),
    ("post", "approvals", {"turns"}),
    ("get", f"approvals/{NOWHERE}", {"turns", "read"}),
    ("get", "cases", {"read"}),
    ("get", "cases/4711", {"turns", "read"}),
    ("post", "cases/4711/take-over", {"review"}),
    ("post", "cases/4711/hand-back", {"review"}),
    ("post", "cases/4711/human-decisions", {"review"}),
    ("get", "escalations", {"review", "read"}),
    ("get", f"escalations/{NOWHERE}", {"review", "read"}),
    ("post", f"escalations/{NOWHERE}/claim", {"review"}),
    ("post", f"escalations/{NOWHERE}/decide", {"review"}),
    ("post", f"escalations/{NOWHERE}/heartbeat", {"review"}),
    ("post", f"escalations/{NOWHERE}/let-go", {"review"}),
    ("post", "private/abcdefghijklmnop/reveal", {"review"}),
    ("get", "versions", {"read"}),
    ("get", "versions/1", {"read"}),
    ("post", "versions", {"releases"}),
    ("get", "releases", {"read"}),
    ("get", "releases/acme@r1", {"read"}),
    ("post", "releases", {"releases"}),
    ("get", "scopes", {"read", "releases"}),
    ("get", "scopes/1", {"read", "releases"}),
    ("get", "scopes/1/deployments", {"read", "releases"}),
    ("post", "scopes/1/deploy", {"releases"}),
    ("post", "scopes/1/rollback", {"releases"}),
    ("get", "agents", {"read"}),
    ("get", "budgets", {"read"}),
    ("get", "usage", {"read"}),
    ("post", "explain", {"read"}),
    ("get", "calls", {"read"}),
    ("get", "findings", {"read"}),
    ("post", "findings/1/harmless", {"review"}),
    ("get", "alerts", {"read"}),
    ("get", "alerts/1", {"read"}),
    ("post", "alerts/1/acknowledge", {"review", "releases"}),
    ("get", "audit", {"read"}),
    ("get", "key", set(ApiKey.SCOPES)),
]


@pytest.mark.parametrize(("method", "path", "needed"), DOORS)
def test_each_door_opens_to_its_scopes_only(issue: Issue, method: str, path: str, needed: set[str]) -> None:
    for scope in ApiKey.SCOPES:
        response = issue(scope).send(method, path, "{}" if method == "post" else "")
        assert (response.status_code != 403) == (scope in needed), scope
        if scope not in needed:
            assert code(response) == (403, "forbidden")
            assert "lacks the scope" in response.json()["error"]["message"]


def test_every_address_is_among_the_doors() -> None:
    from console.api.urls import urlpatterns

    public = {"api-schema", "api-docs", "api-nothing"}
    assert len({path for _, path, _ in DOORS}) == len([one for one in urlpatterns if one.name not in public])


def test_a_key_learns_what_it_is_but_never_its_hash(issue: Issue, web: Any) -> None:
    shown = issue("turns", channel=web).get("key").json()
    key = ApiKey.objects.get()
    assert shown["scopes"] == ["turns"]
    assert (shown["agent"], shown["channel"]) == ("acme", "acme/web")
    assert shown["callback_secret"] == key.callback_secret
    assert key.sha256 not in str(shown)
