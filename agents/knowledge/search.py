"""From a question to the passages that may answer it: full text over lemmas, fused with fuzzy character n-grams."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import exp, log
from typing import Any

from django.db import connection

from agents.connections import in_database
from agents.knowledge.text import content_lemmas, fold, ngram_vector, tokens
from agents.models import Version

CANDIDATES = 24
FUZZY_FLOOR = 0.30
BODY, HEAD, ASKED, FUZZY = 0.70, 0.20, 0.30, 0.35
CLEAR = 0.7
TELLING = 2.2  # information that a question needs to be told from others: one word that a tenth of the passages hold
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
    asked = Asked(
        words,
        {word: rarity.idf(word) for word in words},
        frozenset(fold(token) for token in tokens(question)),
        languages[0] if languages else "",
        topic,
    )
    hits = [
        _scored(row, asked)
        for row in _candidates(knowledge_id, question, sorted(words, key=lambda word: -asked.weights[word])[:40])
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
    updated, lemmas, lemmas of title and heading, similarity).
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
                   tsvector_to_array(p.lemmas), tsvector_to_array(ts_filter(p.lemmas, '{a,b}')),
                   -(p.ngrams <#> %(vector)s::vector)
            FROM found JOIN agents_passage p USING (id) JOIN agents_document d ON d.sha256 = p.document_id
            """,
            {"version": knowledge_id, "query": query, "vector": vector, "limit": CANDIDATES},
        )
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as it is compared: its words with their lemmas and information, all its tokens, where it came from."""

    words: dict[str, frozenset[str]]
    weights: dict[str, float]
    tokens: frozenset[str]
    language: str
    topic: str

    def share(self, lemmas: Collection[str]) -> float:
        """How much of the question's information these lemmas carry, 0 to 1; a question that says little is never 1."""
        found = sum(weight for word, weight in self.weights.items() if not self.words[word].isdisjoint(lemmas))
        return found / max(TELLING, sum(self.weights.values()))


def _scored(row: tuple[Any, ...], asked: Asked) -> Hit:
    """Most counts what the passage carries of the question, then its title and heading, then how alike they look."""
    pk, sha, title, url, heading, text, its_language, its_topic, updated, lemmas, head, similarity = row
    fuzzy = max(0.0, float(similarity) - FUZZY_FLOOR) / (1 - FUZZY_FLOOR)
    score = BODY * asked.share(lemmas) + HEAD * asked.share(head) + ASKED * _same(asked.tokens, heading) + FUZZY * fuzzy
    if asked.language and its_language != asked.language:
        score *= OTHER_LANGUAGE
    if asked.topic and its_topic != asked.topic:
        score *= OTHER_TOPIC
    if score > CLEAR:  # bent towards 1 without reaching it, so that the best stays first
        score = 1 - (1 - CLEAR) * exp((CLEAR - score) / (1 - CLEAR))
    return Hit(pk, sha, title, url, heading, text, score, its_language, its_topic, str(updated or ""))


def _same(asked: frozenset[str], heading: str) -> float:
    """Headings are often the question itself: the share of words that both have, small ones included."""
    words = frozenset(fold(token) for token in tokens(heading))
    return len(asked & words) / len(asked | words) if words else 0.0


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
