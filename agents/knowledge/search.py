"""From a question to the passages that may answer it: full text over lemmas, fused with fuzzy character n-grams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import log
from typing import Any

from django.db import connection

from agents.connections import in_database
from agents.knowledge.text import content_lemmas, ngram_vector
from agents.models import Version

CANDIDATES = 24
FUZZY_FLOOR = 0.30
OTHER_LANGUAGE = 0.75
OTHER_TOPIC = 0.9


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage and how well it fits, 0 to 1. `score` is the share of the question's information that it carries."""

    passage_id: int
    document_sha: str
    title: str
    url: str
    heading: str
    text: str
    score: float
    language: str
    topic: str = ""
    updated: str = ""

    def citation(self, number: int) -> dict[str, str | int | float]:
        return {
            "n": number,
            "title": self.title,
            "heading": self.heading,
            "url": self.url,
            "passage": self.passage_id,
            "document": self.document_sha,
            "text": self.text,
            "score": round(self.score, 3),
        }


async def search(
    knowledge_id: int, question: str, languages: Sequence[str], topic: str = "", limit: int = 5
) -> list[Hit]:
    """The best passages of a knowledge version, best first.

    `languages`: the customer's first, then the agent's others.
    """
    return await in_database(find, knowledge_id, question, tuple(languages), topic, limit)


def search_sync(version: Version, question: str, limit: int = 5, languages: Sequence[str] = ()) -> list[Hit]:
    """The same for the console's search test; the agent's languages unless told."""
    return find(version.pk, question, tuple(languages) or tuple(version.agent.languages), "", limit)


def find(knowledge_id: int, question: str, languages: tuple[str, ...], topic: str, limit: int) -> list[Hit]:
    words = _query_words(question, languages)
    if not words:
        return []
    rarity = _rarity(knowledge_id)
    weights = {word: rarity.idf(word) for word in words}
    hits = [
        _scored(row, words, weights, languages[0] if languages else "", topic)
        for row in _candidates(knowledge_id, question, sorted(words, key=lambda word: -weights[word])[:40])
    ]
    return sorted(hits, key=lambda hit: -hit.score)[:limit]


def _query_words(question: str, languages: tuple[str, ...]) -> dict[str, frozenset[str]]:
    """Each word of the question (as its first lemma) with its lemmas in every language that the agent speaks."""
    words: dict[str, frozenset[str]] = {}
    by_language = [content_lemmas(question, language) for language in languages or ("",)]
    for forms in list(zip(*by_language, strict=True))[:60]:
        words[forms[0]] = frozenset(forms)
    return words


def _candidates(knowledge_id: int, question: str, words: Sequence[str]) -> list[tuple[Any, ...]]:
    """Rows found by words, and rows found by n-grams: (id, sha, title, url, heading, text, language, topic,
    updated, lemmas, similarity).
    """
    vector = str(ngram_vector(question).tolist())
    query = " | ".join(f"'{word}'" for word in words)
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH inside AS (
                SELECT p.id, p.lemmas, p.ngrams FROM agents_passage p
                WHERE p.document_id IN (
                    SELECT jsonb_array_elements_text(content -> 'documents') FROM agents_version WHERE id = %(version)s)
            ), found AS (
                (SELECT id FROM inside WHERE lemmas @@ %(query)s::tsquery
                 ORDER BY ts_rank(lemmas, %(query)s::tsquery) DESC LIMIT %(limit)s)
                UNION
                (SELECT id FROM inside ORDER BY ngrams <#> %(vector)s::vector LIMIT %(limit)s)
            )
            SELECT p.id, d.sha256, d.title, d.url, p.heading, p.text, d.language, d.topic, d.updated,
                   tsvector_to_array(p.lemmas), -(p.ngrams <#> %(vector)s::vector)
            FROM found JOIN agents_passage p USING (id) JOIN agents_document d ON d.sha256 = p.document_id
            """,
            {"version": knowledge_id, "query": query, "vector": vector, "limit": CANDIDATES},
        )
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


def _scored(
    row: tuple[Any, ...],
    words: dict[str, frozenset[str]],
    weights: dict[str, float],
    language: str,
    topic: str,
) -> Hit:
    pk, sha, title, url, heading, text, its_language, its_topic, updated, lemmas, similarity = row
    present = set(lemmas)
    total = sum(weights.values()) or 1.0
    matched = sum(weight for word, weight in weights.items() if words[word] & present) / total
    fuzzy = max(0.0, float(similarity) - FUZZY_FLOOR) / (1 - FUZZY_FLOOR)
    score = min(1.0, 0.8 * matched + 0.35 * fuzzy)
    if language and its_language != language:
        score *= OTHER_LANGUAGE
    if topic and its_topic != topic:
        score *= OTHER_TOPIC
    return Hit(pk, sha, title, url, heading, text, score, its_language, its_topic, str(updated or ""))


@dataclass(frozen=True, slots=True)
class Rarity:
    """How many of `passages` hold each lemma."""

    passages: int
    holding: dict[str, int]

    def idf(self, word: str) -> float:
        """Information of the word; one that no passage knows weighs most: a question about it is not covered."""
        return log(1 + (self.passages + 0.5) / (self.holding.get(word, 0) + 0.5))


@lru_cache(maxsize=32)
def _rarity(knowledge_id: int) -> Rarity:
    """Document frequencies of one version; versions never change, so they are read once a process."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT lemma, count(*) FROM agents_passage p, unnest(tsvector_to_array(p.lemmas)) AS lemma
            WHERE p.document_id IN (
                SELECT jsonb_array_elements_text(content -> 'documents') FROM agents_version WHERE id = %s)
            GROUP BY lemma
            """,
            [knowledge_id],
        )
        holding = dict(cursor.fetchall())
        cursor.execute(
            "SELECT count(*) FROM agents_passage WHERE document_id IN "
            "(SELECT jsonb_array_elements_text(content -> 'documents') FROM agents_version WHERE id = %s)",
            [knowledge_id],
        )
        return Rarity(int(cursor.fetchone()[0]), holding)
