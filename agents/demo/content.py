"""Loads the demo's files: articles, the agent and its customers. Pure: no database, no network."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

HERE = Path(__file__).parent
Profile = Literal["pilot", "production", "attack"]
PROFILES: tuple[Profile, ...] = get_args(Profile)
NANO_PER_USD = 1_000_000_000


class Malformed(ValueError):
    """A demo file is not what it should be; the message names the file."""


@dataclass(frozen=True, slots=True)
class Article:
    id: str
    title: str
    language: str
    topic: str
    updated: date
    url: str
    body: str  # Markdown, without the front matter


@dataclass(frozen=True, slots=True)
class Prompt:
    number: int
    note: str
    system: str
    opening: Mapping[str, str]  # language → words put in front of every answer


@dataclass(frozen=True, slots=True)
class Scope:
    topic: str  # '' is the whole channel
    stage: str


@dataclass(frozen=True, slots=True)
class Channel:
    slug: str
    name: str
    kind: str
    timezone: str
    business_hours: Mapping[str, list[list[str]]]
    holidays: tuple[str, ...]
    sla_first_response_s: int
    sla_next_response_s: int
    sla_review_s: int
    sla_resolution_s: int
    scopes: tuple[Scope, ...]


@dataclass(frozen=True, slots=True)
class Budget:
    owner_kind: str
    owner: str
    period: str
    limit_nano: int
    mode: str


@dataclass(frozen=True, slots=True)
class Agent:
    slug: str
    name: str
    languages: tuple[str, ...]
    prompts: tuple[Prompt, ...]
    channels: tuple[Channel, ...]
    topics: Mapping[str, str]
    budgets: tuple[Budget, ...]


@dataclass(frozen=True, slots=True)
class Message:
    text: str
    outcomes: frozenset[str]  # the acceptable ones
    articles: tuple[str, ...]  # ids of which one must be cited; empty where none is expected


@dataclass(frozen=True, slots=True)
class Conversation:
    id: str
    profile: Profile
    kind: str  # for attacks the family
    language: str
    messages: tuple[Message, ...]


@cache
def articles() -> list[Article]:
    return [_article(path) for path in sorted((HERE / "articles").glob("*/*.md"))]


@cache
def careless_articles() -> list[Article]:
    """The same articles after an edit that nobody checked: returns overpromise, which is what a rollback is for."""
    edited = {article.id: article for article in map(_article, sorted((HERE / "careless").glob("*/*.md")))}
    return [edited.get(article.id, article) for article in articles()]


@cache
def agent() -> Agent:
    content = _load(HERE / "agent.yaml")
    return Agent(
        slug=content["slug"],
        name=content["name"],
        languages=tuple(content["languages"]),
        prompts=tuple(Prompt(**prompt) for prompt in content["prompts"]),
        channels=tuple(_channel(channel) for channel in content["channels"]),
        topics=content["topics"],
        budgets=tuple(_budget(budget) for budget in content["budgets"]),
    )


@cache
def customers(profile: Profile) -> list[Conversation]:
    content = _load(HERE / "customers" / f"{profile}.yaml")
    return [conversation for group in content["groups"] for conversation in _conversations(profile, group)]


def _article(path: Path) -> Article:
    try:
        _, head, body = path.read_text(encoding="utf-8").split("---\n", 2)
        return Article(**yaml.safe_load(head), body=body.strip())
    except (ValueError, TypeError, yaml.YAMLError) as error:
        raise Malformed(f"{path}: {error}") from error


def _load(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise Malformed(f"{path}: {error}") from error
    if not isinstance(content, dict):
        raise Malformed(f"{path}: expected a mapping at the top")
    return content


def _channel(content: Mapping[str, Any]) -> Channel:
    scopes = tuple(Scope(**scope) for scope in content["scopes"])
    return Channel(**{**content, "holidays": tuple(content["holidays"]), "scopes": scopes})


def _budget(content: Mapping[str, Any]) -> Budget:
    rest = {key: value for key, value in content.items() if key != "limit_usd"}
    return Budget(**rest, limit_nano=int(Decimal(content["limit_usd"]) * NANO_PER_USD))


def _conversations(profile: Profile, group: Mapping[str, Any]) -> Iterator[Conversation]:
    """A group shares its kind and its outcomes; an entry, or one message in it, may state its own."""
    kind = group.get("family") or group["kind"]
    for number, entry in enumerate(group["messages"], start=1):
        outcomes = entry.get("outcomes", group["outcomes"])
        said = entry.get("turns") or [entry]
        yield Conversation(
            id=f"{profile}-{kind}-{number:02}",
            profile=profile,
            kind=kind,
            language=entry["language"],
            messages=tuple(_message(message, outcomes) for message in said),
        )


def _message(content: Mapping[str, Any], outcomes: list[str]) -> Message:
    return Message(
        text=content["say"].strip(),
        outcomes=frozenset(content.get("outcomes", outcomes)),
        articles=tuple(content.get("articles", ())),
    )
