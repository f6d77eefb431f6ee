"""Versions and releases are for ever; what is live is the newest deployment; back is always one step away."""

from __future__ import annotations

import threading
import uuid

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction

from agents import releases, snapshot
from agents.models import Agent, Deployment, Release, Scope, StageChange, Version
from agents.releases import Conflict, Invalid
from guardrails import screen
from tests import world
from tests.redis import empty_redis


@pytest.fixture(autouse=True)
def clean_redis() -> None:
    empty_redis()


@pytest.fixture
def agent(db: None) -> Agent:
    return world.make_agent()


@pytest.fixture
def scope(agent: Agent) -> Scope:
    return world.make_scope(agent)


def publish(agent: Agent, name: str) -> Release:
    return world.publish(agent, prompt=f"Be {name}.", documents=())


def live(scope: Scope) -> str:
    row = scope.live()
    assert row is not None
    return row.release.prompt.content["text"].removeprefix("Be ").removesuffix(".")


# --- versions and releases -------------------------------------------------------------------------------------------


def test_the_same_content_is_one_version_and_other_content_the_next(agent: Agent) -> None:
    first = releases.add_version(agent, "prompt", {"text": "Be kind."}, author="user:ada")
    again = releases.add_version(agent, "prompt", {"text": "Be kind."}, author="user:bob")
    other = releases.add_version(agent, "prompt", {"text": "Be kinder."}, author="user:bob")
    assert (again.pk, again.author, other.number) == (first.pk, "user:ada", 2)
    assert first.sha256 != other.sha256


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("prompt", {}),
        ("prompt", {"text": "  "}),
        ("prompt", {"text": "x" * 50_001}),
        ("prompt", "text"),
        ("prompt", {"text": "Be kind.", "opening": "Hello!"}),
        ("knowledge", {"documents": "all"}),
        ("knowledge", {"documents": ["short"]}),
        ("models", {}),
        ("models", {"models": {"m": {"base_url": "ftp://example.com", "price": {"input": "1", "output": "1"}}}}),
        ("models", {"models": {"m": {"base_url": "https://example.com"}}}),
        ("models", {"models": {"m": {"base_url": "https://example.com", "price": {"input": "-1", "output": "1"}}}}),
        ("models", {"models": {"local/extractive": {}}, "tiers": {"small": ["nobody"]}}),
        ("models", {"models": {"local/extractive": {}}, "tiers": {"small": []}}),
        ("models", {"models": {"local/extractive": {}}, "default_tier": "nowhere"}),
        ("models", {"models": {"local/extractive": {}}, "timeout_s": 0}),
        ("models", {"models": {"local/extractive": {"credential": "sk-pasted-in-here"}}}),
        ("models", {"models": {"local/extractive": {"credential": "env:PATH"}}}),
        ("guardrails", {"actions": {"prompt_leak": "shrug"}}),
        ("guardrails", {"nonsense": True}),
        ("edges", {"rules": [{"edge": "Bad Name"}]}),
        ("edges", {"rules": [{"edge": "hello", "action": "answer"}]}),
        ("edges", {"rules": "none"}),
    ],
    ids=str,
)
def test_what_does_not_compile_is_no_version(agent: Agent, kind: str, content: object) -> None:
    with pytest.raises(Invalid) as told:
        releases.add_version(agent, kind, content, author="user:ada")
    assert str(told.value).startswith(Version.Kind(kind).label)
    assert not agent.versions.exists()


def test_a_release_names_one_version_of_each_part_of_its_own_agent(agent: Agent) -> None:
    release = publish(agent, "kind")
    parts = release.parts()
    stranger = publish(world.make_agent("other"), "strange")
    for wrong in (
        {**parts, "prompt": parts["edges"]},
        {**parts, "prompt": stranger.prompt},
        {kind: part for kind, part in parts.items() if kind != "edges"},
    ):
        with pytest.raises(Invalid):
            releases.publish(agent, wrong, author="user:ada")
    again = releases.publish(agent, parts, author="user:ada")
    assert (again.number, again.sha256) == (2, release.sha256)
    assert again.canary != release.canary


def test_the_database_itself_refuses_a_release_of_foreign_parts(agent: Agent) -> None:
    release, stranger = publish(agent, "kind"), publish(world.make_agent("other"), "strange")
    fields = {**release.parts(), "prompt": stranger.prompt, "agent": agent, "number": 9, "sha256": "", "canary": ""}
    with pytest.raises(IntegrityError, match="all of its own agent"), transaction.atomic():
        Release.objects.create(**fields, author="user:eve")


@pytest.mark.parametrize("verb", ["update", "delete", "truncate"])
@pytest.mark.parametrize("model", [Version, Release, Deployment, StageChange])
def test_what_was_published_or_done_is_never_changed_or_deleted(scope: Scope, model: type, verb: str) -> None:
    releases.deploy(scope, publish(scope.agent, "kind"), actor="user:ada")
    StageChange.objects.create(scope=scope, from_stage="narrow", to_stage="shadow", actor="system:watch")
    table = model._meta.db_table  # type: ignore[attr-defined]
    statement = {
        "update": f"UPDATE {table} SET id = id",
        "delete": f"DELETE FROM {table}",
        "truncate": f"TRUNCATE {table} CASCADE",
    }[verb]
    strict = "SET CONSTRAINTS ALL IMMEDIATE; SET LOCAL pilothouse.allow_truncate = 'off'"
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"{strict}; {statement}")
    assert model.objects.exists()  # type: ignore[attr-defined]


# --- deployments -----------------------------------------------------------------------------------------------------


def test_the_newest_deployment_is_live_and_every_change_raises_the_epoch(
    scope: Scope, django_capture_on_commit_callbacks: object
) -> None:
    before = snapshot.epoch()
    with django_capture_on_commit_callbacks(execute=True):  # type: ignore[operator]
        for name in ("one", "two"):
            releases.deploy(scope, publish(scope.agent, name), actor="user:ada")
        releases.roll_back(scope, actor="user:ada")
    assert live(scope) == "one"
    assert snapshot.epoch() == before + 3


def test_rolling_back_twice_goes_back_twice(scope: Scope) -> None:
    for name in ("one", "two", "three"):
        releases.deploy(scope, publish(scope.agent, name), actor="user:ada")
    releases.roll_back(scope, actor="user:ada")
    assert live(scope) == "two"
    releases.roll_back(scope, actor="user:ada")
    assert live(scope) == "one"
    with pytest.raises(Conflict):
        releases.roll_back(scope, actor="user:ada")
    releases.deploy(scope, publish(scope.agent, "four"), actor="user:ada")
    releases.roll_back(scope, actor="user:ada")
    assert live(scope) == "one", "what was rolled back is not a place to go back to"


def test_rolling_back_to_what_was_never_live_is_no_rollback(scope: Scope) -> None:
    releases.deploy(scope, publish(scope.agent, "one"), actor="user:ada")
    with pytest.raises(Conflict, match="deploy it instead"):
        releases.roll_back(scope, to=publish(scope.agent, "two"), actor="user:ada")
    with pytest.raises(Conflict, match="no earlier release"):
        releases.roll_back(scope, actor="user:ada")


def test_rolling_back_a_canary_returns_everybody_to_the_stable_release(scope: Scope) -> None:
    releases.deploy(scope, publish(scope.agent, "old"), actor="user:ada")
    releases.deploy(scope, publish(scope.agent, "new"), actor="user:ada", percent=10)
    assert releases.roll_back(scope, actor="user:ada").percent == 100
    assert live(scope) == "old"


@pytest.mark.parametrize("percent", [0, -1, 101])
def test_a_percentage_is_from_one_to_a_hundred(scope: Scope, percent: int) -> None:
    with pytest.raises(Invalid):
        releases.deploy(scope, publish(scope.agent, "one"), actor="user:ada", percent=percent)


def test_a_first_release_is_no_canary_and_the_same_twice_is_a_conflict(scope: Scope) -> None:
    release = publish(scope.agent, "one")
    with pytest.raises(Invalid, match="no release yet"):
        releases.deploy(scope, release, actor="user:ada", percent=10)
    releases.deploy(scope, release, actor="user:ada")
    with pytest.raises(Conflict):
        releases.deploy(scope, release, actor="user:ada")
    with pytest.raises(Conflict, match="another agent"):
        releases.deploy(scope, publish(world.make_agent("other"), "strange"), actor="user:ada")


@pytest.mark.parametrize("actor", ["system:watch", "agent:acme", "rule:burn@1", ""])
def test_a_machine_goes_back_but_never_forward(scope: Scope, actor: str) -> None:
    one, two = publish(scope.agent, "one"), publish(scope.agent, "two")
    with pytest.raises(Conflict, match="named person"), transaction.atomic():
        releases.deploy(scope, one, actor=actor)
    releases.deploy(scope, one, actor="user:ada")
    releases.deploy(scope, two, actor="user:ada")
    assert releases.roll_back(scope, actor=actor, automatic=True).kind == "automatic_rollback"
    assert live(scope) == "one"


def test_a_diff_names_the_parts_that_differ(agent: Agent) -> None:
    one, two = publish(agent, "one"), publish(agent, "two")
    assert releases.diff(one, two) == {"prompt": (one.prompt, two.prompt)}
    assert releases.diff(one, one) == {}


# --- canaries --------------------------------------------------------------------------------------------------------


def test_a_canary_takes_its_share_of_cases_and_every_case_keeps_its_side(scope: Scope) -> None:
    old, new = publish(scope.agent, "old"), publish(scope.agent, "new")
    releases.deploy(scope, old, actor="user:ada")
    refs = [f"case-{n}" for n in range(4_000)]
    sides: dict[int, set[str]] = {}
    for percent in (1, 10, 50, 99):
        releases.deploy(scope, new, actor="user:ada", percent=percent)
        state = snapshot.load(1).scopes[scope.name]
        again = snapshot.load(2).scopes[scope.name]
        served = {ref: state.live_for(ref) for ref in refs}
        assert {ref: again.live_for(ref) for ref in refs} == served
        sides[percent] = {ref for ref, release in served.items() if release and release.id == new.pk}
        assert abs(len(sides[percent]) / len(refs) - percent / 100) < 0.025
    assert sides[1] < sides[10] < sides[50] < sides[99], "who has the new release keeps it while the share grows"
    releases.deploy(scope, new, actor="user:ada")
    state = snapshot.load(3).scopes[scope.name]
    assert {release.id for ref in refs if (release := state.live_for(ref))} == {new.pk}
    assert scope.live().kind == "promote"  # type: ignore[union-attr]


def test_two_scopes_do_not_try_the_same_cases(agent: Agent) -> None:
    old, new = publish(agent, "old"), publish(agent, "new")
    sides = []
    for slug in ("web", "mail"):
        scope = world.make_scope(agent, slug, release=old)
        releases.deploy(scope, new, actor="user:ada", percent=50)
        state = snapshot.load(1).scopes[scope.name]
        sides.append({n for n in range(400) if (live := state.live_for(str(n))) and live.id == new.pk})
    assert sides[0] != sides[1]


# --- side by side ----------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_ten_who_publish_at_once_get_ten_numbers_and_one_version() -> None:
    agent = world.make_agent()
    parts = publish(agent, "one").parts()
    failures: list[Exception] = []

    def work() -> None:
        try:
            releases.add_version(agent, "prompt", {"text": "All the same."}, author="user:ada")
            releases.publish(agent, parts, author="user:ada")
        except DatabaseError as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sorted(agent.releases.values_list("number", flat=True)) == list(range(1, 12))
    assert agent.versions.filter(kind="prompt").count() == 2


@pytest.mark.django_db(transaction=True)
def test_of_many_who_deploy_the_same_at_once_one_does() -> None:
    agent = world.make_agent()
    scope, release = world.make_scope(agent), publish(agent, f"one {uuid.uuid4()}")
    told: list[str] = []

    def work() -> None:
        try:
            releases.deploy(scope, release, actor="user:ada")
            told.append("deployed")
        except Conflict:
            told.append("conflict")
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told) == ["conflict"] * 7 + ["deployed"]
    assert scope.deployments.count() == 1


# --- guardrails as a condition ---------------------------------------------------------------------------------------


def speaking(agent: Agent, **settings: object) -> Release:
    return world.publish(agent, guardrails={**screen.DEFAULT_POLICY, **settings}, documents=())


def test_a_release_that_leaves_a_language_open_goes_live_only_with_a_reason(agent: Agent, scope: Scope) -> None:
    Agent.objects.filter(pk=agent.pk).update(languages=["en", "pl"])
    scope = Scope.objects.with_names().get(pk=scope.pk)
    release = speaking(agent, languages=["en", "de"])
    with pytest.raises(Invalid, match=r"do not cover pl, which .* speaks"):
        releases.deploy(scope, release, actor="user:ada", reason=" ")
    assert scope.live() is None
    made = releases.deploy(scope, release, actor="user:ada", reason="Polish is answered by people.")
    assert (made.actor, made.reason) == ("user:ada", "Polish is answered by people.")


def test_a_language_without_a_pack_is_open_whatever_the_policy_says(agent: Agent, scope: Scope) -> None:
    Agent.objects.filter(pk=agent.pk).update(languages=["en", "ka"])
    scope = Scope.objects.with_names().get(pk=scope.pk)
    with pytest.raises(Invalid, match="do not cover ka"):
        releases.deploy(scope, speaking(agent), actor="user:ada")


def test_a_release_that_covers_all_languages_needs_no_reason(agent: Agent, scope: Scope) -> None:
    assert releases.deploy(scope, speaking(agent), actor="user:ada").reason == ""


def test_a_judge_that_no_model_can_be_is_refused_when_published(agent: Agent) -> None:
    with pytest.raises(Invalid, match="is the model nobody"):
        speaking(agent, judge={"model": "nobody", "on_failure": "escalate"})
