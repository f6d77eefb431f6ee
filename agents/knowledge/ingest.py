"""Documents into passages, stored once under the hash of their content."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

import regex
from django.db import connection, transaction

from agents.knowledge.text import content_lemmas, ngram_vector
from agents.models import Document, Passage
from agents.models.release import content_hash

PASSAGE_CHARS = 700
HEADING = regex.compile(r"^#{1,6}\s+(.*)$")
SENTENCE_END = regex.compile(r"(?<=[.!?…])\s+(?=[\p{Lu}\p{N}\"„«(])")


@dataclass(frozen=True, slots=True)
class SourceDocument:
    """One document as it comes in. `body` is Markdown or plain text."""

    title: str
    language: str
    body: str
    topic: str = ""
    url: str = ""
    updated: date | None = None

    @property
    def sha256(self) -> str:
        return content_hash([self.title, self.language, self.topic, self.url, str(self.updated), self.body])


def add_documents(documents: Iterable[SourceDocument]) -> list[str]:
    """Store what is not stored yet; the content hashes of all, in order."""
    documents = list(documents)
    hashes = [document.sha256 for document in documents]
    known = set(Document.objects.filter(pk__in=hashes).values_list("pk", flat=True))
    for document in documents:
        if document.sha256 not in known:
            known.add(document.sha256)
            _store(document)
    return hashes


def version_content(hashes: Iterable[str]) -> dict[str, Any]:
    """The content of a knowledge version that holds these documents."""
    return {"documents": sorted(set(hashes))}


@transaction.atomic
def _store(document: SourceDocument) -> None:
    row, created = Document.objects.get_or_create(
        sha256=document.sha256,
        defaults={
            "title": document.title,
            "language": document.language,
            "topic": document.topic,
            "url": document.url,
            "updated": document.updated,
            "body": document.body,
        },
    )
    if not created:
        return
    for ordinal, (heading, text) in enumerate(passages(document.body)):
        passage = Passage(document=row, ordinal=ordinal, heading=heading, text=text)
        searchable = f"{document.title} {heading} {text}"
        passage.ngrams = ngram_vector(searchable).tolist()
        _insert(passage, tsvector(document.title, heading, text, document.language))


def tsvector(title: str, heading: str, text: str, language: str) -> str:
    """The passage's lemmas as a tsvector literal; the title's weigh A, the heading's B, the text's D."""
    positions: dict[str, list[str]] = {}
    position = 0
    for weight, part in (("A", title), ("B", heading), ("D", text)):
        for word in content_lemmas(part, language):
            position = min(position + 1, 16_000)
            positions.setdefault(word, []).append(f"{position}{weight}")
    return " ".join(f"'{word}':{','.join(places[:200])}" for word, places in positions.items())


def _insert(passage: Passage, lemmas: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO agents_passage (document_id, ordinal, heading, text, lemmas, ngrams) "
            "VALUES (%s, %s, %s, %s, %s::tsvector, %s::vector)",
            [passage.document_id, passage.ordinal, passage.heading, passage.text, lemmas, str(list(passage.ngrams))],
        )


def passages(body: str) -> Iterator[tuple[str, str]]:
    """(heading, text) pieces of at most about PASSAGE_CHARS, cut at headings, then paragraphs, then sentences."""
    heading, lines = "", list[str]()
    for line in [*body.splitlines(), None]:
        match = HEADING.match(line) if line is not None else None
        if line is None or match:
            yield from ((heading, piece) for piece in _pieces("\n".join(lines)))
            lines = []
            heading = match.group(1).strip() if match else heading
        else:
            lines.append(line)


def _pieces(text: str) -> Iterator[str]:
    paragraphs = [paragraph.strip() for paragraph in regex.split(r"\n\s*\n", text) if paragraph.strip()]
    piece = ""
    for paragraph in paragraphs:
        for part in [paragraph] if len(paragraph) <= PASSAGE_CHARS else sentences(paragraph):
            if piece and len(piece) + len(part) > PASSAGE_CHARS:
                yield piece
                piece = ""
            piece = f"{piece}\n\n{part}" if piece else part
    if piece:
        yield piece


def sentences(text: str) -> list[str]:
    """Sentences and list items, each without its mark-up, in order."""
    found = []
    for line in regex.split(r"\n(?=\s*(?:[-*•]|\d+[.)])\s)|\n\s*\n", text):
        flat = " ".join(line.split())
        flat = regex.sub(r"^(?:[-*•]|\d+[.)])\s+", "", flat).replace("**", "")
        found += [sentence.strip() for sentence in SENTENCE_END.split(flat) if sentence.strip()]
    return found


def lemma_counts(text: str, language: str) -> Counter[str]:
    return Counter(content_lemmas(text, language))
