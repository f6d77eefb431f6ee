"""Links and images in an answer that would carry data away or deceive: anything the sources did not bring."""

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from guardrails.detectors import Span

_MARKDOWN = re.compile(
    r"(?P<image>!?)\[(?P<words>[^\]\[\n]{0,300}+)\]\(\s?<?(?P<url>[^()\s<>\[]{1,2000}+)(?:[ >][^)(\[\n]{0,200}+)?\)"
)
_HTML = re.compile(
    r"<(?P<tag>img|a|iframe|script|form|link|object|embed|video|audio|source|svg)\b[^<>]{0,2000}+>?", re.IGNORECASE
)
_ATTRIBUTE = re.compile(r"(?:src|href|action|data|srcset)\s?=\s?[\"']?(?P<url>[^\"'\s>]{1,2000})", re.IGNORECASE)
_BARE = re.compile(r"(?:https?|ftp|javascript|data|vbscript|file):[^\s)>\]\"']{3,2000}", re.IGNORECASE)
_SCHEMES = frozenset({"javascript", "data", "vbscript", "file"})
_CARRIES = re.compile(r"[?&#=/][A-Za-z0-9+/_%=-]{48,}|[?&#][^\s]{120,}|\{[^}]{0,40}\}|%7B", re.IGNORECASE)
_NUMERIC_HOST = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}|0x[0-9a-f]+|\d{6,}|\[[0-9a-f:.]+\]", re.IGNORECASE)
_LABEL = "[link removed]"


def host_of(url: str) -> str:
    try:
        return (urlsplit(url if "//" in url else "//" + url).hostname or "").removeprefix("www.")
    except ValueError:
        return ""


def unsafe_links(text: str, known: str) -> Iterator[Span]:
    """`known` is what the sources and the prompt say, in lower case: hosts named there may be linked and shown."""
    if "](" in text:
        for found in _MARKDOWN.finditer(text):
            if _unsafe(found["url"], known, embedded=bool(found["image"])) or _deceives(found["words"], found["url"]):
                yield Span("unsafe-link", *found.span(), _LABEL)
    if "<" in text:
        for found in _HTML.finditer(text):
            inner = _ATTRIBUTE.search(found[0])
            embedded = found["tag"].lower() != "a"
            if (inner and _unsafe(inner["url"], known, embedded=embedded)) or found["tag"].lower() in (
                "script",
                "iframe",
            ):
                yield Span("unsafe-link", *found.span(), _LABEL)
    if ":" in text:
        for found in _BARE.finditer(text):
            if _unsafe(found[0], known, embedded=False):
                yield Span("unsafe-link", *found.span(), _LABEL)


def _unsafe(url: str, known: str, *, embedded: bool) -> bool:
    """A picture loads without a click, so its host must be known; a link must not carry data or hide where it goes."""
    lowered = url.lower()
    scheme = lowered.partition(":")[0]
    if scheme in _SCHEMES:
        return True
    if not lowered.startswith(("http://", "https://", "//", "ftp://")):
        return False
    if lowered in known:
        return False
    host = host_of(lowered)
    if (
        not host
        or "@" in lowered.split("/", 3)[2]
        or host.startswith("xn--")
        or ".xn--" in host
        or _NUMERIC_HOST.fullmatch(host)
    ):
        return True
    trusted = host in known
    return not trusted and (embedded or bool(_CARRIES.search(url)))


def _deceives(words: str, url: str) -> bool:
    """The words are an address of another site than the one the link goes to."""
    shown = words.strip().lower()
    if " " in shown or "." not in shown or not url.lower().startswith("http"):
        return False
    named, real = host_of(shown), host_of(url.lower())
    return "." in named and bool(real) and named != real and not real.endswith("." + named)
