"""The demo agent into the database: its knowledge, its versions, its releases, live on every scope."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from agents import knowledge, releases
from agents.demo import content
from agents.models import Agent, Channel, Release, Scope
from budgets.models import Budget
from escalations import edges
from guardrails import screen

KINDS = {"web chat": "chat", "e-mail": "email", "voice": "voice", "internal tool": "internal"}
# The built-in model costs computing time, not tokens; this internal rate makes it visible in budgets and charts.
INTERNAL_RATE = {"input": "0.10", "output": "0.40"}
MODELS: dict[str, Any] = {
    "models": {"local/extractive": {"max_output_tokens": 400, "price": INTERNAL_RATE}},
    "tiers": {"small": ["local/extractive"]},
    "default_tier": "small",
    "timeout_s": 20,
    "retries": 1,
}


@transaction.atomic
def load_demo(*, author: str) -> Agent:
    """Create the demo agent with two releases; the first is live everywhere, the second waits to be tried."""
    described = content.agent()
    agent = Agent.objects.create(slug=described.slug, name=described.name, languages=list(described.languages))
    good, _ = _releases(agent, described, author)
    for channel in described.channels:
        row = Channel.objects.create(
            agent=agent,
            slug=channel.slug,
            name=channel.name,
            kind=KINDS[channel.kind],
            timezone=channel.timezone,
            business_hours=dict(channel.business_hours),
            holidays=list(channel.holidays),
            sla_first_response_s=channel.sla_first_response_s,
            sla_next_response_s=channel.sla_next_response_s,
            sla_review_s=channel.sla_review_s,
            sla_resolution_s=channel.sla_resolution_s,
        )
        for scope in channel.scopes:
            saved = Scope.objects.create(channel=row, topic=scope.topic, stage=scope.stage)
            releases.deploy(saved, good, actor="user:admin", reason="First release of the demo.")
    for budget in described.budgets:
        Budget.objects.open(
            actor=author,
            reason="First budgets of the demo.",
            owner_kind=budget.owner_kind,
            owner=budget.owner,
            period=budget.period,
            limit_nano=budget.limit_nano,
            mode=budget.mode,
            timezone="Europe/Warsaw",
        )
    return agent


def _releases(agent: Agent, described: content.Agent, author: str) -> tuple[Release, Release]:
    """The careful release, and the careless one: another tone and a knowledge base that nobody read again."""
    policy = {**screen.DEFAULT_POLICY, "languages": list(described.languages)}
    shared = {
        "models": releases.add_version(agent, "models", MODELS, author=author, note="The built-in model."),
        "guardrails": releases.add_version(agent, "guardrails", policy, author=author, note="The default policy."),
        "edges": releases.add_version(agent, "edges", edges.DEFAULT_POLICY, author=author, note="The default rules."),
    }
    made = []
    for prompt, articles in zip(described.prompts, (content.articles(), content.careless_articles()), strict=True):
        text = {
            "text": prompt.system,
            "opening": {language: words for language, words in prompt.opening.items() if words},
        }
        hashes = knowledge.add_documents(_source(article) for article in articles)
        own = {
            "prompt": releases.add_version(agent, "prompt", text, author=author, note=prompt.note),
            "knowledge": releases.add_version(
                agent,
                "knowledge",
                knowledge.version_content(hashes),
                author=author,
                note=f"The help centre, with prompt {prompt.number}.",
            ),
        }
        made.append(releases.publish(agent, {**own, **shared}, author=author, note=prompt.note))
    return made[0], made[1]


def _source(article: content.Article) -> knowledge.SourceDocument:
    return knowledge.SourceDocument(
        title=article.title,
        language=article.language,
        body=article.body,
        topic=article.topic,
        url=article.url,
        updated=article.updated,
    )
