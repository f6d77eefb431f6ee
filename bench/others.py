"""Harmless texts of others, in many languages, that weights are learned from: what Debian's packages say to people.

`python -m bench.others FOLDER` fetches the packages with apt and writes `FOLDER/others.jsonl.gz`: a text a line, with
the package and the language. Nothing of it is in the project.
"""

from __future__ import annotations

import gettext
import gzip
import html
import json
import random
import re
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Final

from bench.guardrails_rows import Row
from guardrails.lexicon import languages
from guardrails.wording import UNSPACED

# Stories and dialogues, games, quizzes, proverbs, manuals, mail, shops, chats, families, money, wikis, projects.
PACKAGES: Final = (
    "wesnoth-1.16-data", "freeciv-data", "gbrainy", "kgeography-data", "kalzium-data", "khangman", "kanagram",
    "marble-data", "gnome-user-docs", "evolution-common", "homebank-data", "gnucash-common", "gramps", "wordpress-l10n",
    "pidgin-data", "gajim", "digikam-data", "gimp-data", "redmine", "mediawiki", "python3-django", "fortunes",
    "fortunes-zh", "fortunes-bg", "fortunes-br", "fortunes-cs", "fortunes-de", "fortunes-ga", "fortunes-it",
    "fortunes-pl", "fortunes-ru",
)  # fmt: skip
OFFICE: Final = ("libreoffice-help", "libreoffice-l10n")  # one for each language
# Packages that only measure.
KEPT: Final = frozenset({"wesnoth-1.16-data", "gbrainy", "gajim", "python3-django", "fortunes-pl", "fortunes-ru"})
TEXTS: Final = "others.jsonl.gz"
JOINED: Final = (1, 1, 2, 3, 4)  # texts in a document, by lot
LEAST, MOST = 12, 700  # letters
_FORTUNES: Final = {"": "en", "br": "pt"}  # by the end of the package's name, where it is no language's code
_AS: Final = {"nb": "no", "nn": "no", "fil": "tl", "iw": "he", "in": "id"}
_TAGS: Final = re.compile(r"<[^<>]{1,200}>|\[/?\w{1,12}\]")
_KEYS: Final = re.compile(r"[_&](?=\w)")  # where they were before or inside of a word
_SPACE: Final = re.compile(r"\s+")
_PARAGRAPH: Final = re.compile(r"<(p|title|desc|h1|h2|h3|li|td)\b[^>]*>(.*?)</\1>", re.DOTALL)


def fetch(folder: Path) -> Iterator[Path]:
    """The folder of each package's files, those of a language that has none left out."""
    codes = [*languages(), "zh-cn", "nb", "pt-br"]
    for package in [*PACKAGES, *(f"{name}-{code}" for name in OFFICE for code in codes)]:
        unpacked = folder / package
        if not unpacked.exists():
            command = ["/usr/bin/apt-get", "download", "-q", package]
            subprocess.run(command, cwd=folder, check=False, capture_output=True)
            for archive in folder.glob(f"{package}_*.deb"):
                subprocess.run(["/usr/bin/dpkg-deb", "-x", archive, unpacked], check=True)
                archive.unlink()
        if unpacked.exists():
            yield unpacked


def texts(package: Path) -> Iterator[tuple[str, str]]:
    """Language and text, each once."""
    seen = set()
    for path in sorted(package.rglob("*")):
        if path.is_file() and not path.is_symlink():
            for code, raw in _of(path, package):
                text = _clean(raw)
                if code in languages() and _is_said(text) and text not in seen:
                    seen.add(text)
                    yield code, text


def _of(path: Path, package: Path) -> Iterator[tuple[str, str]]:
    match path.suffix:
        case ".mo" | ".gmo":
            yield from _catalog(path)
        case ".json" if "i18n" in path.parts and path.stem != "qqq":
            content = json.loads(path.read_text(encoding="utf-8"))
            yield from ((_code(path.stem), text) for text in content.values() if isinstance(text, str))
        case ".page" | ".html":
            code = next((_code(part) for part in reversed(path.parts[:-1]) if _code(part) in languages()), "")
            yield from (
                (code, found[1]) for found in _PARAGRAPH.findall(path.read_text(encoding="utf-8", errors="replace"))
            )
        case "" | ".u8" if package.name.startswith("fortunes") and "fortunes" in path.parts:
            said = path.read_bytes().decode("utf-8", errors="ignore")
            name = package.name.removeprefix("fortunes").removeprefix("-")
            yield from ((_FORTUNES.get(name, name), text) for text in re.split(r"\n%\n", said))


def _project(package: str) -> str:
    """The package, without the language that it is for: each of the office suite's has the English again."""
    return next((name for name in OFFICE if package.startswith(name)), package)


def _catalog(path: Path) -> Iterator[tuple[str, str]]:
    """The translated messages of one file, and those in English they were translated from."""
    code = _code(path.parts[-3] if path.parent.name == "LC_MESSAGES" else path.stem.rpartition("-")[2])
    with path.open("rb") as file:
        try:
            catalog = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]  # noqa: SLF001  its only list
        except (OSError, ValueError, LookupError, struct.error):
            return
    for said, translated in catalog.items():
        if said and isinstance(translated, str) and code in languages():
            yield code, translated
            yield "en", said if isinstance(said, str) else said[0]


def _code(name: str) -> str:
    code = re.split(r"[-_@.]", name.lower())[0]
    return "" if name.lower().startswith(("zh_tw", "zh-tw", "zh_hant", "zh-hant", "zh_hk")) else _AS.get(code, code)


def _is_said(text: str) -> bool:
    """Whether it is more than a name, and no book."""
    least = 5 if UNSPACED.search(text) else LEAST if " " in text else MOST
    return least <= len(text) <= MOST


def _clean(text: str) -> str:
    """As it is shown: without markup and the marks of keys."""
    bare = html.unescape(_TAGS.sub(" ", text.rpartition("\x04")[2].rpartition("^")[2]))
    return _SPACE.sub(" ", _KEYS.sub("", bare)).strip()


def said(folder: Path, most: int, *, kept: bool = False) -> list[Row]:
    """At most so many texts of each package in each language, as messages; of packages that only measure, if `kept`."""
    chance = random.Random(5)  # noqa: S311  the same every time
    found: dict[tuple[str, str], dict[str, None]] = {}
    with gzip.open(folder / TEXTS, "rt", encoding="utf-8") as lines:
        for entry in map(json.loads, lines):
            if (entry["package"] in KEPT) == kept:
                found.setdefault((_project(entry["package"]), entry["language"]), {})[entry["text"]] = None
    taken = ((key, chance.sample([*of], min(most, len(of)))) for key, of in sorted(found.items()))
    return [
        Row(f"others-{name}", "benign", "ordinary", "inbound", code, text) for (name, code), of in taken for text in of
    ]


def joined(rows: Sequence[Row]) -> list[Row]:
    """The same as documents, up to four texts of one package and language in each."""
    chance = random.Random(7)  # noqa: S311  the same every time
    found = []
    for _, group in groupby(rows, key=lambda row: (row.set, row.language)):
        of = list(group)
        while of:
            number = chance.choice(JOINED)
            text = chance.choice(("\n", " ", ". ")).join(row.text for row in of[:number])
            found.append(replace(of[0], family="tool_harmless", stage="passage", text=text))
            del of[:number]
    return found


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with gzip.open(folder / TEXTS, "wt", encoding="utf-8") as out:
        for package in fetch(folder):
            for code, text in texts(package):
                entry = {"package": package.name, "language": code, "text": text}
                out.write(json.dumps(entry, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
