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


def test_the_careless_edit_changes_returns_and_nothing_else():
    pairs = list(zip(ARTICLES, content.careless_articles(), strict=True))
    changed = [(before, after) for before, after in pairs if before.body != after.body]
    assert sorted(before.id for before, _ in changed) == ["de-returns", "en-returns", "pl-returns"]
    for before, after in changed:
        assert (before.id, before.title, before.url, before.topic) == (after.id, after.title, after.url, after.topic)
        assert "30" in before.body
        assert "30" not in after.body
        assert "90" in after.body


def test_a_broken_article_is_named(tmp_path):
    path = tmp_path / "en-broken.md"
    path.write_text("---\nid: en-broken\n---\nNo title.", encoding="utf-8")
    with pytest.raises(content.Malformed, match="en-broken"):
        content._article(path)


ARTICLE_IDS = {article.id for article in ARTICLES}
CONVERSATIONS = {profile: content.customers(profile) for profile in content.PROFILES}
OUTCOMES = {"answered", "clarified", "escalated", "refused"}


def messages(profile):
    return [message for conversation in CONVERSATIONS[profile] for message in conversation.messages]


@pytest.mark.parametrize(("profile", "least"), [("pilot", 60), ("production", 150), ("attack", 60)])
def test_a_profile_has_enough_messages(profile, least):
    assert len(messages(profile)) >= least


@pytest.mark.parametrize("profile", content.PROFILES)
def test_every_expected_article_exists(profile):
    expected = {article for message in messages(profile) for article in message.articles}
    assert expected <= ARTICLE_IDS


@pytest.mark.parametrize("profile", content.PROFILES)
def test_outcomes_are_known_and_never_empty(profile):
    assert all(message.outcomes and message.outcomes <= OUTCOMES for message in messages(profile))


def test_no_message_and_no_id_occurs_twice():
    everyone = [conversation for profile in content.PROFILES for conversation in CONVERSATIONS[profile]]
    ids = Counter(conversation.id for conversation in everyone)
    texts = Counter(message.text.casefold() for conversation in everyone for message in conversation.messages)
    assert [value for counted in (ids, texts) for value, number in counted.items() if number > 1] == []


def test_a_pilot_question_is_answered_from_an_article_in_its_language():
    for conversation in CONVERSATIONS["pilot"]:
        for message in conversation.messages:
            assert message.outcomes == {"answered"}
            assert message.articles
            assert all(article.startswith(f"{conversation.language}-") for article in message.articles)


def test_the_pilot_touches_every_article():
    touched = {article for message in messages("pilot") for article in message.articles}
    assert touched == ARTICLE_IDS


def test_production_has_the_whole_long_tail():
    kinds = {conversation.kind for conversation in CONVERSATIONS["production"]}
    assert kinds >= {
        *("typos", "no_diacritics", "very_short", "ambiguous", "out_of_scope", "angry", "legal_threat", "wants_person"),
        *("follow_up", "two_intents", "unanswerable", "mixed_language", "foreign_language", "uncovered_language"),
        *("emoji", "rambling", "signature", "personal_data"),
    }
    assert any(len(conversation.messages) > 2 for conversation in CONVERSATIONS["production"])


def test_a_question_that_must_go_to_a_person_expects_no_article():
    for message in messages("production"):
        if "answered" not in message.outcomes:
            assert message.articles == () or "clarified" in message.outcomes, message.text


def test_personal_data_is_fake_but_has_valid_checksums():
    from stdnum import iban, luhn

    text = "\n".join(message.text for message in messages("production"))
    accounts = re.findall(r"\b[A-Z]{2}\d{2}(?: \d{2,4}){4,7}", text)
    assert len(accounts) >= 2
    assert all(iban.is_valid(account) for account in accounts)
    cards = re.findall(r"(?<!\d )\b(?:[45]\d{3}(?: \d{4}){3}|3\d{14})\b(?! \d)", text)
    assert len(cards) >= 4
    assert all(luhn.is_valid(card.replace(" ", "")) for card in cards)


def test_an_attack_may_never_be_answered():
    for conversation in CONVERSATIONS["attack"]:
        assert conversation.messages[-1].outcomes == {"refused", "escalated"}


def test_attacks_come_in_every_family_and_several_languages():
    families = Counter(conversation.kind for conversation in CONVERSATIONS["attack"])
    assert len(families) >= 13
    assert min(families.values()) >= 5
    assert {conversation.language for conversation in CONVERSATIONS["attack"]} >= {"en", "pl", "de", "fr", "es", "uk"}


def test_only_reserved_domains_are_named():
    files = (path for path in content.HERE.rglob("*") if path.suffix in {".md", ".yaml"})
    hosts = {
        host for path in files for host in re.findall(r"(?:https?://|www\.|@)([\w.-]+\w)", path.read_text("utf-8"))
    }
    assert {host for host in hosts if not host.endswith((".example", "example.com"))} == set()
