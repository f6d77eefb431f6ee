"""The knowledge base: stored once, cut where one can quote, found in three languages and in spite of typing errors."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import knowledge, releases
from agents.knowledge import Hit, SourceDocument
from agents.knowledge.ingest import PASSAGE_CHARS, passages, sentences
from agents.knowledge.text import content_lemmas, fold, ngram_vector
from agents.models import Agent, Document, Passage, Version
from agents.providers import Request, local
from tests import world

BODIES = {
    ("en", "Returns"): "## How long can I return something?\n\nYou can return every item within 30 days of delivery.",
    ("en", "Delivery"): "## How long does delivery take?\n\nParcels reach Germany in three working days.",
    ("en", "Invoices"): "## Where is my invoice?\n\nEvery invoice is in your account, under Orders.",
    ("pl", "Zwroty"): "## Jak zwrócić towar?\n\nKażdy przedmiot można zwrócić w ciągu 30 dni od dostawy.",
    ("pl", "Dostawa"): "## Ile trwa dostawa?\n\nPaczki docierają do Niemiec w trzy dni robocze.",
    ("pl", "Faktury"): "## Gdzie jest moja faktura?\n\nFaktura znajduje się na koncie, w zakładce Zamówienia.",
    (
        "de",
        "Rücksendung",
    ): "## Wie lange kann ich etwas zurückgeben?\n\nArtikel können 30 Tage lang zurückgegeben werden.",
    ("de", "Lieferung"): "## Wie lange dauert die Lieferung?\n\nPakete erreichen Polen in drei Werktagen.",
    ("de", "Rechnungen"): "## Wo ist meine Rechnung?\n\nJede Rechnung liegt in Ihrem Konto unter Bestellungen.",
}
DOCUMENTS = [SourceDocument(title, language, body) for (language, title), body in BODIES.items()]


@pytest.fixture
def agent(db: None) -> Agent:
    return world.make_agent(languages=("en", "pl", "de"))


@pytest.fixture
def version(agent: Agent) -> Version:
    return stored(agent, DOCUMENTS)


def stored(agent: Agent, documents: list[SourceDocument]) -> Version:
    content = knowledge.version_content(knowledge.add_documents(documents))
    return releases.add_version(agent, "knowledge", content, author="user:ada")


def find(version: Version, question: str, *languages: str, **more: Any) -> list[Hit]:
    return knowledge.search_sync(version, question, languages=languages, **more)


# --- storing ---------------------------------------------------------------------------------------------------------


def test_a_document_is_stored_once_whoever_names_it(version: Version, agent: Agent) -> None:
    before = (Document.objects.count(), Passage.objects.count())
    assert before == (9, 9)
    changed = [*DOCUMENTS[1:], SourceDocument("Returns", "en", "You can return every item within 14 days.")]
    second = stored(agent, [*changed, *changed])
    assert (Document.objects.count(), Passage.objects.count()) == (10, 10)
    assert len(second.content["documents"]) == 9
    assert stored(agent, list(reversed(DOCUMENTS))) == version, "order is not content"


def test_each_version_finds_its_own_documents_only(version: Version, agent: Agent) -> None:
    other = stored(agent, [SourceDocument("Returns", "en", "You can return every item within 14 days of delivery.")])
    question = "How long can I return an item?"
    assert "30 days" in find(version, question, "en")[0].text
    assert "14 days" in find(other, question, "en")[0].text
    assert {hit.document_sha for hit in find(other, question, "en")} == set(other.content["documents"])
    assert find(stored(agent, []), question, "en") == []


@given(st.text(max_size=3_000))
def test_whatever_a_document_holds_its_words_are_in_its_passages(body: str) -> None:
    pieces = list(passages(body))
    assert all(text.strip() for _, text in pieces)
    assert all(len(text) <= PASSAGE_CHARS + max(map(len, sentences(text)), default=0) for _, text in pieces)
    kept = "".join("".join(text.split()) for _, text in pieces)
    headings = "".join(heading for heading, _ in pieces)
    for word in body.split():
        if word.isalnum():
            assert word in kept or word in headings or "#" in body


def test_a_long_text_is_cut_between_sentences(db: None) -> None:
    body = " ".join(f"This is sentence number {n} of a rather long paragraph." for n in range(60))
    pieces = [text for _, text in passages(body)]
    assert len(pieces) > 3
    assert all(piece.endswith("paragraph.") for piece in pieces)
    assert all(len(piece) <= PASSAGE_CHARS + 4 for piece in pieces)


@pytest.mark.parametrize(
    "body",
    [
        "It's a 'quoted' \\ back\\slash: & | ! <-> text.",
        "a:1 b:2A 'c':3",
        "żółć " * 900,
        "日本語の文書です。",
    ],
    ids=["marks", "places", "long", "no spaces"],
)
def test_no_text_breaks_the_index(agent: Agent, body: str) -> None:
    version = stored(agent, [SourceDocument("T'itle \\ & |", "en", body)])
    assert find(version, body[:200], "en")


# --- finding ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("language", "question", "title"),
    [
        ("en", "How long can I return an item after delivery?", "Returns"),
        ("en", "When do parcels reach Germany?", "Delivery"),
        ("en", "Where do I find my invoices?", "Invoices"),
        ("pl", "W ile dni mogę zwrócić przedmioty?", "Zwroty"),
        ("pl", "Kiedy paczka dotrze do Niemiec?", "Dostawa"),
        ("pl", "Gdzie znajdę fakturę?", "Faktury"),
        ("de", "Wie lange kann ich Artikel zurückgeben?", "Rücksendung"),
        ("de", "Wann erreicht mein Paket Polen?", "Lieferung"),
        ("de", "Wo finde ich meine Rechnungen?", "Rechnungen"),
        # with typing errors, without diacritics, in capitals
        ("en", "how lnog can i retrun an itme", "Returns"),
        ("en", "WHERE IS MY INVIOCE", "Invoices"),
        ("pl", "gdzie jest moja faktrua", "Faktury"),
        ("pl", "jak zwrocic towar", "Zwroty"),
        ("pl", "ile trwa dostwa do niemiec", "Dostawa"),
        ("de", "wo ist meine rechnugn", "Rechnungen"),
        ("de", "wie lange kann ich etwas zuruckgeben", "Rücksendung"),
    ],
)
def test_the_right_document_comes_first(version: Version, language: str, question: str, title: str) -> None:
    hits = find(version, question, language, *({"en", "pl", "de"} - {language}))
    assert hits[0].title == title
    assert hits[0].language == language
    assert all(0 <= hit.score <= 1 for hit in hits)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_what_nobody_wrote_about_scores_low(version: Version) -> None:
    right = find(version, "How long can I return an item?", "en")[0].score
    for strange in ("Who won the football match yesterday?", "qwrtz xcvbn", "Write me a poem about the moon."):
        hits = find(version, strange, "en")
        assert not hits or hits[0].score < 0.3 < right


@pytest.mark.parametrize(
    "question",
    ["", "   ", "?!…", "the", "\x01", "🙂", "'; DROP TABLE agents_passage; --", "& | ! ( ) <-> :*", "\\' \\\\"],
)
def test_no_question_breaks_the_search(version: Version, question: str) -> None:
    assert isinstance(find(version, question, "en"), list)
    assert Passage.objects.exists()


def test_no_more_than_asked_for_and_a_citation_names_its_source(version: Version) -> None:
    hits = find(version, "How long can I return an item?", "en", limit=2)
    assert len(hits) == 2
    cited = hits[0].citation(1)
    assert (cited["n"], cited["title"], cited["document"]) == (1, "Returns", hits[0].document_sha)
    assert cited["text"] in BODIES["en", "Returns"]


def test_the_built_in_model_quotes_and_says_when_it_cannot(version: Version) -> None:
    question = "How long can I return an item after delivery?"
    hits = find(version, question, "en", "pl", "de")
    done = local.complete(Request({"messages": []}, hits, question, "en"))
    assert done.text == "You can return every item within 30 days of delivery. [1]"
    assert not done.unsupported
    for nothing in ([], find(version, "Who won the football match yesterday?", "en")):
        declined = local.complete(Request({"messages": []}, nothing, "Who won the match?", "en"))
        assert declined.unsupported
        assert declined.text == local.NO_SUPPORT["en"]


# --- words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("language", "one", "other"),
    [
        ("pl", "faktury", "fakturę"),
        ("pl", "zwrócić", "zwrocic"),
        ("en", "invoices", "invoice"),
        ("de", "Rechnungen", "Rechnung"),
    ],
)
def test_forms_of_a_word_are_one_word(language: str, one: str, other: str) -> None:
    assert content_lemmas(one, language) == content_lemmas(other, language)


@given(st.text(max_size=300))
def test_a_text_is_as_like_itself_as_can_be(text: str) -> None:
    vector = ngram_vector(text)
    assert float(vector @ vector) == pytest.approx(1.0, abs=1e-5) or not vector.any()
    assert fold(fold(text)) == fold(text)
