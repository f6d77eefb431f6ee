"""The description of the door, for programs and for people."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
import yaml
from django.core.management import call_command
from django.test import Client

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def schema() -> Any:
    out = StringIO()
    call_command("spectacular", "--validate", "--fail-on-warn", stdout=out)
    return yaml.safe_load(out.getvalue())


def test_it_is_whole_and_without_warnings(schema: Any) -> None:
    assert schema["openapi"].startswith("3.")
    assert {"/api/v1/turns", "/api/v1/scopes/{id}/rollback", "/api/v1/escalations/{id}/decide"} <= set(schema["paths"])


def test_every_operation_asks_for_a_key_and_names_its_errors(schema: Any) -> None:
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            if path in ("/api/v1/schema/", "/api/v1/docs/"):
                continue
            assert operation["security"] == [{"key": []}], path
            assert operation["responses"]["401"]["content"]["application/json"]["schema"] == {
                "$ref": "#/components/schemas/Error"
            }, (path, method)


def test_a_draft_is_no_field_of_a_turn(schema: Any) -> None:
    assert "draft" not in schema["components"]["schemas"]["Turn"]["properties"]


def test_it_is_open_to_read() -> None:
    response = Client().get("/api/v1/schema/")
    assert response.status_code == 200
    assert yaml.safe_load(response.content)["info"]["title"] == "Pilothouse"


def test_the_pages_run_only_scripts_of_ours() -> None:
    response = Client().get("/api/v1/docs/")
    policy = response.headers["Content-Security-Policy"]
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";") if " " in part.strip())
    assert directives["script-src"] == "'self'"
    assert "'unsafe-inline'" in directives["style-src"]
    assert "<script>" not in response.content.decode()
    assert "unsafe" not in Client().get("/api/v1/turns").headers["Content-Security-Policy"]
