"""Documents into passages, stored once under the hash of their content."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import PurePath
from typing import Any

import regex
import yaml
from django.db import connection, transaction

from agents.knowledge.text import content_lemmas, ngram_vector
from agents.models import Document, Passage
from agents.models.release import content_hash

PASSAGE_CHARS = 700
HASH = 64
LENGTHS = {"title": 300, "language": 8, "topic": 50, "url": 500}
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


def read(name: str, text: str, language: str) -> SourceDocument:
    """A Markdown or plain text file: titled by its front matter, else its first heading, else its name.

    :raises ValueError: it is empty, or its front matter is not a mapping of a document's fields.
    """
    head, body = _front_matter(name, text)
    lines = body.strip().splitlines()
    if not head.get("title") and lines and (heading := HEADING.match(lines[0])):
        head["title"], lines = heading.group(1).strip(), lines[1:]
    body = "\n".join(lines).strip()
    if not body:
        raise ValueError(f"{name} is empty.")
    updated = head.get("updated")
    return SourceDocument(
        title=str(head.get("title") or PurePath(name).stem)[:300],
        language=str(head.get("language") or language)[:8],
        body=body.replace("\x00", ""),
        topic=str(head.get("topic") or "")[:50],
        url=str(head.get("url") or "")[:500],
        updated=updated if isinstance(updated, date) else None,
    )


def _front_matter(name: str, text: str) -> tuple[dict[str, Any], str]:
    if not text.startswith("---\n"):
        return {}, text
    try:
        _, head, body = text.split("---\n", 2)
        fields = yaml.safe_load(head)
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{name}: its front matter is not YAML between two lines of three hyphens.") from error
    if not isinstance(fields, dict):
        raise ValueError(f"{name}: its front matter is not a list of fields.")  # noqa: TRY004  the file's fault
    return fields, body


@transaction.atomic
def take_in(content: Any) -> Any:
    """A knowledge version's content in which documents may be given whole; they are stored and named by their hashes.

    `{"documents": [sha256 | {"title", "language", "body", "topic"?, "url"?}, …]}`. What is malformed is left for the
    version's own check. :raises ValueError: a document lacks a field or has an unknown one, or a hash is not stored.
    """
    given = content.get("documents") if isinstance(content, Mapping) else None
    if not isinstance(given, list):
        return content
    hashes = [item for item in given if isinstance(item, str) and len(item) == HASH]
    if missing := set(hashes) - set(Document.objects.filter(pk__in=hashes).values_list("pk", flat=True)):
        raise ValueError(f"no document {min(missing)} is stored: send it whole.")
    whole = [_whole(item) for item in given if isinstance(item, Mapping)]
    strays = [item for item in given if not isinstance(item, Mapping) and item not in hashes]
    return {**content, "documents": [*sorted({*hashes, *add_documents(whole)}), *strays]}


def _whole(item: Mapping[str, Any]) -> SourceDocument:
    if unknown := set(item) - {"title", "language", "body", "topic", "url"}:
        raise ValueError(f"a document has no field {min(unknown)}.")
    if not all(isinstance(value, str) for value in item.values()):
        raise ValueError("the fields of a document are texts.")
    if not all(item.get(name, "").strip() for name in ("title", "language", "body")):
        raise ValueError("a document has a title, a language and a body.")
    if any(len(item.get(name, "")) > most for name, most in LENGTHS.items()) or "\x00" in "".join(item.values()):
        raise ValueError("a title has at most 300 characters, a topic 50, an address 500.")
    return SourceDocument(**item)


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
