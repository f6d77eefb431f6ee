"""The demo's files are complete and agree with one another."""

import re
from collections import Counter
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from agents.demo import content

AGENT = content.agent()
ARTICLES = content.articles()


def test_holds_about_forty_articles_in_three_languages():
    per_language = Counter(article.language for article in ARTICLES)
    assert set(per_language) == {"en", "pl", "de"}
    assert all(number >= 13 for number in per_language.values())
    assert 38 <= len(ARTICLES) <= 48


def test_no_two_articles_share_an_id_a_title_or_a_url():
    for name in ("id", "title", "url"):
        values = Counter(getattr(article, name) for article in ARTICLES)
        assert [value for value, number in values.items() if number > 1] == []


@pytest.mark.parametrize("article", ARTICLES, ids=lambda article: article.id)
def test_an_article_is_well_formed(article):
    path = content.HERE / "articles" / article.language / f"{article.id}.md"
    assert path.is_file()
    assert article.id.startswith(f"{article.language}-")
    assert article.topic in AGENT.topics
    assert article.url.startswith(f"https://kociolek.example/{article.language}/")
    assert 120 <= len(article.body.split()) <= 300


def test_every_topic_has_an_article():
    assert {article.topic for article in ARTICLES} == set(AGENT.topics)


def in_euro(text):
    """Every amount in euro, however the language writes it: '€5.90', '5,90 €', '1.200 €'."""
    found = re.findall(r"€(\d[\d.,]*\d|\d)|(\d[\d.,]*\d|\d)[  ]€", text)
    amounts = (before or after for before, after in found)
    return {Decimal(re.sub(r"[.,](?=\d{3}\b)", "", amount).replace(",", ".")) for amount in amounts}


@pytest.mark.parametrize("topic", ["delivery", "parts", "refunds", "returns"])
def test_translations_name_the_same_amounts(topic):
    amounts = {article.language: in_euro(article.body) for article in ARTICLES if article.topic == topic}
    if topic == "refunds":  # the Polish article leaves the foreign label out
        amounts.pop("pl")
    assert len({frozenset(found) for found in amounts.values()}) == 1, amounts


@pytest.mark.parametrize(
    ("topic", "figures"),
    [
        ("returns", ["30", "15", "24", "31", "7"]),
        ("refunds", ["5", "14", "3–5", "1–2"]),
        ("warranty", ["10", "5", "3", "2", "12", "14"]),
        ("sizes", ["38.5", "41.5", "44.5", "88–95", "112–119", "46"]),
        ("vouchers", ["24", "10", "30", "35", "150", "15", "250", "1000"]),
        ("contact", ["8:00–18:00", "9:00–14:00", "14", "43-300"]),
        ("complaints", ["7", "14", "3"]),
        ("orders", ["8:00", "30"]),
    ],
)
def test_translations_name_the_same_figures(topic, figures):
    for article in (article for article in ARTICLES if article.topic == topic):
        text = re.sub(r"(?<=\d)[.,](?=\d{3}\b)", "", article.body).replace(",5", ".5")
        missing = [figure for figure in figures if not re.search(rf"(?<!\d){re.escape(figure)}(?!\d)", text)]
        assert missing == [], article.id


def test_the_agent_shows_all_four_stages():
    stages = {scope.stage for channel in AGENT.channels for scope in channel.scopes}
    assert stages == {"pilot", "shadow", "narrow", "expanded"}


def test_every_channel_has_a_scope_of_its_own_and_known_topics():
    for channel in AGENT.channels:
        assert [scope.topic for scope in channel.scopes].count("") == 1
        assert {scope.topic for scope in channel.scopes} <= set(AGENT.topics) | {""}
        assert ZoneInfo(channel.timezone)


def test_business_hours_are_ordered_intervals():
    for channel in AGENT.channels:
        for day, intervals in channel.business_hours.items():
            assert day in {"mon", "tue", "wed", "thu", "fri", "sat", "sun"}
            edges = [edge for interval in intervals for edge in interval]
            assert edges == sorted(edges)
            assert all(re.fullmatch(r"[0-2]\d:[0-5]\d", edge) for edge in edges)


def test_budgets_belong_to_something_that_exists():
    owners = {"", AGENT.slug} | {f"{AGENT.slug}/{channel.slug}" for channel in AGENT.channels}
    assert {budget.owner for budget in AGENT.budgets} <= owners
    assert all(budget.limit_nano > 0 for budget in AGENT.budgets)
    keys = [(budget.owner_kind, budget.owner, budget.period) for budget in AGENT.budgets]
    assert len(keys) == len(set(keys))


def test_the_second_prompt_is_the_careless_one():
    good, careless = AGENT.prompts
    assert "Never guess" in good.system
    assert "guaranteed" in careless.system
    assert set(careless.opening) == set(AGENT.languages)
    assert not any(good.opening.values())


def test_a_broken_article_is_named(tmp_path):
    path = tmp_path / "en-broken.md"
    path.write_text("---\nid: en-broken\n---\nNo title.", encoding="utf-8")
    with pytest.raises(content.Malformed, match="en-broken"):
        content._article(path)
