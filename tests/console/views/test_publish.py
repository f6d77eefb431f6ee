"""A release made in the browser: from nothing to an agent that answers out of its own documents."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from agents import knowledge, parts
from agents.models import Agent, Document, Release, Scope, Version

Person = Callable[..., Client]
pytestmark = pytest.mark.django_db
OPENING = "# Opening hours\n\nThe shop is open from 9:00 to 17:00 on Saturdays.\n"


def address(agent: Agent) -> str:
    return reverse("publish", args=[agent.slug])


def given(content: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """What the form holds when nobody has changed it."""
    content = content or parts.beginnings(["en", "pl"])
    fields = {part: json.dumps(content[part]) for part in ("models", "guardrails", "edges")}
    return {"prompt": content["prompt"]["text"], "language": "en", "note": "", **fields, **changes}


def upload(name: str, text: str | bytes) -> SimpleUploadedFile:
    return SimpleUploadedFile(name, text.encode() if isinstance(text, str) else text)


def contents(release: Release) -> dict[str, Any]:
    return {part: version.content for part, version in release.parts().items()}


def test_an_agents_first_release_finds_what_was_uploaded(person: Person, agent: Agent, scope: Scope) -> None:
    client = person("administrator")
    page = client.get(address(agent)).content.decode()
    assert "local/extractive" in page
    response = client.post(address(agent), given(documents=[upload("hours.md", OPENING)]))
    release = Release.objects.get()
    assert response["location"] == reverse("release", args=["acme", 1])
    assert (release.author, release.number) == ("user:administrator", 1)
    [hit] = knowledge.search_sync(release.knowledge, "When do you open on Saturday?")
    assert (hit.title, hit.language) == ("Opening hours", "en")
    assert client.get(response["location"]).status_code == 200
    assert client.get(reverse("deploy", args=[scope.pk]) + "?release=1").status_code == 200
    assert client.post(reverse("deploy", args=[scope.pk]), {"release": "1"}).status_code == 302


def test_what_is_left_as_it_is_stays_the_same_version(person: Person, agent: Agent, live: Release) -> None:
    client = person("administrator")
    client.post(address(agent), given(contents(live), prompt="Second prompt", note="Shorter"))
    release = Release.objects.get(number=2)
    assert (release.prompt.number, release.prompt.content["text"], release.note) == (2, "Second prompt", "Shorter")
    assert [release.models, release.guardrails, release.edges] == [live.models, live.guardrails, live.edges]


def test_documents_are_left_out_of_the_new_release_only(person: Person, agent: Agent) -> None:
    client = person("administrator")
    files = [upload("hours.md", OPENING), upload("returns.txt", "You have 30 days to return an order.")]
    client.post(address(agent), given(documents=files))
    dropped = Document.objects.get(title="returns").pk
    client.post(address(agent), given(leave_out=[dropped]))
    first, second = Release.objects.order_by("number")
    assert len(first.knowledge.content["documents"]) == 2
    assert second.knowledge.content["documents"] == [Document.objects.get(title="Opening hours").pk]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"models": "{"}, "valid JSON"),
        ({"models": '{"models": {}}'}, "models names at least one model"),
        ({"models": '{"models": {"odd": {"base_url": "https://odd.example"}}}'}, "no public price is known"),
        ({"prompt": ""}, "required"),
        ({"documents": [upload("a.md", b"\xff\xfe\xfa")]}, "is not UTF-8 text"),
        ({"documents": [upload("a.md", "---\nx: [\n---\ntext")]}, "front matter"),
        ({"documents": [upload("a.md", "# Only a title\n")]}, "a.md is empty"),
    ],
)
def test_what_cannot_be_published_says_why_and_writes_nothing(
    person: Person, agent: Agent, changes: dict[str, Any], says: str
) -> None:
    response = person("administrator").post(address(agent), given(note="Kept note", **changes))
    text = response.content.decode()
    assert response.status_code == 422
    assert says in text
    assert "Kept note" in text
    assert not Release.objects.exists()
    assert not Version.objects.exists()
    assert not Document.objects.exists()


def test_publishing_what_is_there_already_is_refused(person: Person, agent: Agent, live: Release) -> None:
    response = person("administrator").post(address(agent), given(contents(live)))
    assert "Nothing differs from acme@r1." in response.content.decode()
    assert Release.objects.count() == 1


def test_only_administrators_publish(person: Person, agent: Agent, other_agent: Agent) -> None:
    assert person("operations").post(address(agent), given()).status_code == 403
    administrator = person("administrator")
    assert administrator.get(address(other_agent)).status_code == 404
    assert address(agent) in administrator.get(reverse("releases")).content.decode()


def test_front_matter_names_a_document() -> None:
    text = "---\ntitle: Zwroty\nlanguage: pl\ntopic: returns\nupdated: 2026-01-02\n---\nMasz 30 dni.\n"
    found = knowledge.read("anything.md", text, "en")
    assert (found.title, found.language, found.topic, str(found.updated)) == ("Zwroty", "pl", "returns", "2026-01-02")
    assert found.body == "Masz 30 dni."
