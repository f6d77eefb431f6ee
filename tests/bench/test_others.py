"""What weights are learned from beside our own sentences is what the packages say to people, and no more than asked."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path

import pytest

from bench import others


def catalog(said: dict[str, str]) -> bytes:
    """A compiled catalog of gettext."""
    pairs = sorted({"": "Content-Type: text/plain; charset=UTF-8\n", **said}.items())
    texts = [text.encode() for column in zip(*pairs, strict=True) for text in column]
    at, tables = 28 + 16 * len(pairs), b""
    for text in texts:
        tables += struct.pack("<II", len(text), at)
        at += len(text) + 1
    head = struct.pack("<7I", 0x950412DE, 0, len(pairs), 28, 28 + 8 * len(pairs), 0, 0)
    return head + tables + b"".join(text + b"\0" for text in texts)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return tmp_path / "some-package"


def put(package: Path, path: str, content: bytes | str) -> None:
    file = package / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())


def test_a_catalog_gives_what_it_says_and_the_english_it_was_made_from(package: Path) -> None:
    said = {"_Open the <b>old</b> door": "Öffne die <b>alte</b> _Tür", "Yes": "Ja"}
    put(package, "usr/share/locale/de/LC_MESSAGES/app.mo", catalog(said))
    put(package, "usr/share/locale/zh_TW/LC_MESSAGES/app.mo", catalog({"Close the door now": "現在關上那扇門"}))
    assert sorted(others.texts(package)) == [("de", "Öffne die alte Tür"), ("en", "Open the old door")]


def test_messages_of_wikis_and_manuals_are_read_and_notes_to_translators_are_not(package: Path) -> None:
    put(package, "i18n/sv.json", json.dumps({"@metadata": {"authors": []}, "go": "Gå till sidan igen"}))
    put(package, "i18n/qqq.json", json.dumps({"go": "Says where a click leads"}))
    put(package, "usr/share/help/pt-BR/a.page", "<page><p>Feche a janela &amp; espere.</p><p>Ok</p></page>")
    assert sorted(others.texts(package)) == [("pt", "Feche a janela & espere."), ("sv", "Gå till sidan igen")]


def test_a_broken_catalog_gives_nothing(package: Path) -> None:
    put(package, "usr/share/locale/de/LC_MESSAGES/app.mo", b"\xde\x12\x04\x95broken")
    assert list(others.texts(package)) == []


def test_at_most_so_many_are_learned_from_and_what_measures_is_kept_apart(tmp_path: Path) -> None:
    kept = min(others.KEPT)
    with gzip.open(tmp_path / others.TEXTS, "wt") as out:
        for package in ("some-package", kept):
            for at in range(20):
                out.write(json.dumps({"package": package, "language": "en", "text": f"Text number {at}"}) + "\n")
    learned, measures = others.said(tmp_path, 5), others.said(tmp_path, 50, kept=True)
    assert {row.set for row in learned} == {"others-some-package"}
    assert {row.set for row in measures} == {f"others-{kept}"}
    assert (len(learned), len(measures)) == (5, 20)
    documents = others.joined(measures)
    assert len(documents) < len(measures)
    assert sum(row.text.count("Text number") for row in documents) == len(measures)
    assert {row.stage for row in documents} == {"passage"}


def test_the_english_that_each_language_of_the_office_suite_brings_counts_once(tmp_path: Path) -> None:
    with gzip.open(tmp_path / others.TEXTS, "wt") as out:
        for code in ("de", "fr"):
            for language, text in (("en", "Close the window now"), (code, f"Words in {code}")):
                entry = {"package": f"{others.OFFICE[0]}-{code}", "language": language, "text": text}
                out.write(json.dumps(entry) + "\n")
    texts = [row.text for row in others.said(tmp_path, 5)]
    assert sorted(texts) == ["Close the window now", "Words in de", "Words in fr"]
