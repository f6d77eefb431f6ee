"""Words for retrieval: tokens, lemmas in any of the knowledge base's languages, and hashed character n-grams."""

from __future__ import annotations

import unicodedata
import zlib
from functools import lru_cache
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt
import regex
from simplemma import Lemmatizer
from simplemma.strategies import LOW_MEMORY_DICTIONARY_FACTORY, DefaultStrategy
from simplemma.strategies.dictionaries.dictionary_factory import SUPPORTED_LANGUAGES

from agents.models.knowledge import DIMENSIONS

WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+")
LEMMATISED = frozenset(SUPPORTED_LANGUAGES)
# A tenth of the memory of plain dictionaries (Polish: 55 MB instead of 410); each word is looked up once and kept.
LEMMATIZER = Lemmatizer(lemmatization_strategy=DefaultStrategy(dictionary_factory=LOW_MEMORY_DICTIONARY_FACTORY))
# Words that carry no topic, for the languages in which most of our questions come; elsewhere idf does the work.
STOPWORDS = frozenset(
    word for path in (Path(__file__).parent / "stopwords").glob("*.txt") for word in path.read_text("utf-8").split()
)
_loading = Lock()
_loaded: set[str] = set()


def load(language: str) -> None:
    """Read the language's dictionary, once: a second of work that threads must not do side by side."""
    if language in _loaded or language not in LEMMATISED:
        return
    with _loading:
        if language not in _loaded:
            LEMMATIZER.lemmatize("a", lang=language)
            _loaded.add(language)


def tokens(text: str) -> list[str]:
    """Lower-case words of any script, marks kept with their letters."""
    return WORD.findall(unicodedata.normalize("NFKC", text).lower())


@lru_cache(maxsize=100_000)
def lemma(token: str, language: str) -> str:
    """The dictionary form, without diacritics, so that "zwrocic" finds "zwrócić"; the token itself where no
    dictionary helps.
    """
    if language in LEMMATISED:
        load(language)
        token = LEMMATIZER.lemmatize(token, lang=language).lower()
    return fold(token)


@lru_cache(maxsize=100_000)
def fold(token: str) -> str:
    """The token without diacritics (ł, ø, ß included)."""
    bare = "".join(ch for ch in unicodedata.normalize("NFD", token) if not unicodedata.combining(ch))
    return bare.replace("ł", "l").replace("ø", "o").replace("ß", "ss").replace("đ", "d")


def content_lemmas(text: str, language: str) -> list[str]:
    """The lemmas that carry meaning, in order, with repeats."""
    return [
        lemma(token, language)
        for token in tokens(text)
        if token not in STOPWORDS and (len(token) > 1 or token.isdigit())
    ]


def ngram_vector(text: str) -> npt.NDArray[np.float32]:
    """A unit vector of hashed character 3- and 4-grams, `DIMENSIONS` long: close for words with typing errors."""
    vector = np.zeros(DIMENSIONS, dtype=np.float32)
    for token in tokens(text):
        if token in STOPWORDS:
            continue
        padded = f" {fold(token)} "
        for size in (3, 4):
            for start in range(len(padded) - size + 1):
                hashed = zlib.crc32(padded[start : start + size].encode())
                vector[hashed % DIMENSIONS] += 1.0 if hashed & 0x8000_0000 else -1.0
    norm = float(np.linalg.norm(vector))
    return vector / norm if norm else vector
