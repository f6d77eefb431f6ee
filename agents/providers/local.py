"""`local/extractive`: answers only by quoting its sources, and says when they do not support an answer.

No weights, no network: sentences are scored by the share of the question's information they carry, and the best are
quoted with their citations. It is the product's own model, so that everything runs for real offline.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log

from agents.knowledge.ingest import sentences
from agents.knowledge.search import Hit
from agents.knowledge.text import content_lemmas, fold, ngram_vector, tokens
from agents.providers.base import Completion, Delta, Request, Usage, estimate_tokens, text_of

NAME = "local/extractive"
MAX_SENTENCES = 3
SUPPORT_FLOOR = 0.34
NEAR = 0.9
NO_SUPPORT = {
    "en": "I have no source that answers this.",
    "pl": "Nie mam źródła, które na to odpowiada.",
    "de": "Ich habe keine Quelle, die das beantwortet.",
}


@dataclass(frozen=True, slots=True)
class Quote:
    text: str
    source: int
    score: float
    place: int


def complete(request: Request) -> Completion:
    """The best-supported sentences of the sources, each with its citation mark `[n]`."""
    sources = request.sources or _sources_in(request)
    question = request.question or _last_user_text(request)
    language = request.language or "en"
    quotes = _quotes(question, language, sources)
    text = " ".join(f"{quote.text} [{quote.source}]" for quote in quotes) or NO_SUPPORT.get(language, NO_SUPPORT["en"])
    prompt = " ".join(text_of(message.get("content")) for message in request.body.get("messages", ()))
    usage = Usage(estimate_tokens(prompt), estimate_tokens(text))
    return Completion(text, usage, "stop", _wire(text, usage), unsupported=not quotes)


def stream(request: Request) -> Iterator[Delta]:
    """The same answer, a few words at a time, in OpenAI's chunks."""
    done = complete(request)
    head = {"id": done.raw["id"], "object": "chat.completion.chunk", "created": done.raw["created"], "model": NAME}
    words = done.text.split(" ")
    for start in range(0, len(words), 6):
        piece = " ".join(words[start : start + 6]) + (" " if start + 6 < len(words) else "")
        delta = {"content": piece} | ({"role": "assistant"} if start == 0 else {})
        yield Delta({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}, piece)
    yield Delta({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}, finish="stop")
    yield Delta({**head, "choices": [], "usage": done.raw["usage"]}, usage=done.usage)


def _quotes(question: str, language: str, sources: Sequence[Hit]) -> list[Quote]:
    """The sentences worth quoting, in reading order; none when the best carries too little of the question."""
    if not sources or sources[0].score < SUPPORT_FLOOR:
        return []
    candidates = [
        (number, place, source, sentence)
        for number, source in enumerate(sources[:3], start=1)
        if source.document_sha == sources[0].document_sha and source.score >= NEAR * sources[0].score
        for place, sentence in enumerate(sentences(source.text))
        if len(sentence) > 12 and not sentence.endswith(":")
    ]
    if not candidates:
        return []
    wanted = _weights(question, language, [sentence for *_, sentence in candidates])
    vector = ngram_vector(question)
    quotes = [
        Quote(sentence, number, _score(sentence, place, source, wanted, vector, language), place)
        for number, place, source, sentence in candidates
    ]
    best = sorted(quotes, key=lambda quote: -quote.score)[:MAX_SENTENCES]
    kept = [quote for quote in best if quote.score >= 0.5 * best[0].score and quote.source == best[0].source] or best[
        :1
    ]
    return sorted(kept, key=lambda quote: (quote.source, quote.place))


def _weights(question: str, language: str, texts: Sequence[str]) -> dict[str, float]:
    """How telling each word of the question is among these sentences."""
    words = set(content_lemmas(question, language))
    holding = {word: sum(word in _lemmas(text, language) for text in texts) for word in words}
    return {word: log(1 + len(texts) / (count + 0.5)) for word, count in holding.items()}


def _score(sentence: str, place: int, source: Hit, wanted: dict[str, float], vector: object, language: str) -> float:
    """Its share of the question, how alike they look, and a little for standing early: that is where answers stand."""
    present = _lemmas(sentence, source.language or language)
    total = sum(wanted.values()) or 1.0
    overlap = sum(weight for word, weight in wanted.items() if word in present) / total
    fuzzy = max(0.0, float(ngram_vector(sentence) @ vector))  # type: ignore[operator]
    return source.score * (0.25 + overlap + 0.6 * fuzzy + 0.15 / (1 + place))


def _lemmas(text: str, language: str) -> set[str]:
    return set(content_lemmas(text, language)) | {fold(token) for token in tokens(text)}


def _last_user_text(request: Request) -> str:
    for message in reversed(request.body.get("messages", ())):
        if message.get("role") == "user":
            return text_of(message.get("content"))
    return ""


def _sources_in(request: Request) -> list[Hit]:
    """Called without retrieval, the model may quote only what system and tool messages bring along."""
    question = set(content_lemmas(_last_user_text(request), request.language or "en"))
    found = []
    for message in request.body.get("messages", ()):
        if message.get("role") in ("system", "developer", "tool"):
            text = text_of(message.get("content"))
            present = _lemmas(text, request.language or "en")
            score = len(question & present) / len(question) if question else 0.0
            found.append(Hit(0, "", str(message.get("role")), "", "", text, score, request.language or "en"))
    return sorted(found, key=lambda hit: -hit.score)


def _wire(text: str, usage: Usage) -> dict[str, object]:
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": NAME,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.input_tokens + usage.output_tokens,
        },
    }
