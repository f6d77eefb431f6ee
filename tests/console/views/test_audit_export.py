"""The audit trail as a file."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from django.test import Client
from django.urls import reverse

from agents.models import Agent
from console.audit import record
from console.models import AuditEntry

Person = Callable[..., Client]
pytestmark = pytest.mark.django_db


def exported(person: Client, **filters: str) -> list[dict[str, object]]:
    response = person.post(reverse("audit-export"), filters)
    assert response.status_code == 200
    assert response["content-disposition"].startswith('attachment; filename="audit-')
    return [json.loads(line) for line in b"".join(response.streaming_content).splitlines()]  # type: ignore[attr-defined]


def test_every_entry_is_a_line_with_what_its_hash_is_made_of(person: Person, agent: Agent) -> None:
    first = record("user:ada", "thing.done", agent=agent.slug, object="one")
    rows = exported(person("administrator"), action="thing.done")
    assert [(row["object"], row["sha256"], row["previous"]) for row in rows] == [("one", first.sha256, first.previous)]


def test_lines_are_in_the_order_of_the_chain_and_filters_hold(person: Person, agent: Agent) -> None:
    for name in ("one", "two", "three"):
        record("user:ada", "thing.done", agent=agent.slug, object=name)
    administrator = person("administrator")
    assert [row["object"] for row in exported(administrator, action="thing.done")] == ["one", "two", "three"]
    assert [row["object"] for row in exported(administrator, action="thing.done", object="tw")] == ["two"]


def test_an_export_is_an_entry_itself(person: Person) -> None:
    exported(person("superuser"), actor="ada")
    assert AuditEntry.objects.filter(action="audit.exported", detail={"actor": "ada"}).count() == 1


def test_nobody_gets_entries_of_agents_that_they_may_not_see(person: Person, agent: Agent) -> None:
    record("user:ada", "thing.done", agent="elsewhere", object="secret")
    record("user:ada", "thing.done", agent=agent.slug, object="ours")
    rows = exported(person("viewer"))
    assert {row["object"] for row in rows if row["action"] == "thing.done"} == {"ours"}


def test_it_is_no_page_to_get(person: Person) -> None:
    assert person("administrator").get(reverse("audit-export")).status_code == 405
