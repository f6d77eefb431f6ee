"""Personal data with a form that can be checked: e-mail addresses, phones, cards, IBANs, national numbers.

Each look-up starts from a cheap sign (an @, a run of digits); checksums and numbering plans decide.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice

import phonenumbers
from stdnum import iban as iban_number
from stdnum import luhn
from stdnum.cz import rc as rodne_cislo
from stdnum.de import idnr as steuer_id
from stdnum.es import dni, nie
from stdnum.fr import nir
from stdnum.it import codicefiscale
from stdnum.pl import pesel
from stdnum.pt import cc as cartao_cidadao

from guardrails.detectors import Span, mask

_EMAIL = re.compile(r"(?<![\w.+%-])[\w.+%-]{1,64}@(?:[\w-]{1,63}\.){1,5}[^\W\d_]{2,24}(?![\w])")
_DIGITS = re.compile(r"(?:\d\D{0,8}){6}\d")
_RUN = re.compile(r"(?<![\w.,/-])(?:\+|00)?\(?\d(?:[ \u00a0.()/-]{0,3}\d){6,22}(?!\w|[.,]\d)")
_IBAN = re.compile(
    r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]{4}){2,7}(?:[ -]?[A-Za-z0-9]{1,4})?(?![A-Za-z0-9])"
)
_GROUP = re.compile(r"\d+")
_SSN = re.compile(r"(?<![\w-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])")
_SIGNS: tuple[tuple[re.Pattern[str], Callable[[str], bool]], ...] = (
    (re.compile(r"(?<!\w)[XYZxyz][ -]?\d{7}[ -]?[A-Za-z](?!\w)"), nie.is_valid),
    (re.compile(r"(?<!\w)\d{8}[ -]?[A-Za-z](?!\w)"), dni.is_valid),
    (
        re.compile(r"(?<!\w)[A-Za-z]{6}\d{2}[A-EHLMPRSTa-ehlmprst]\d{2}[A-Za-z]\d{3}[A-Za-z](?!\w)"),
        codicefiscale.is_valid,
    ),
    (re.compile(r"(?<!\w)\d{8} ?\d ?[A-Za-z]{2}\d(?!\w)"), cartao_cidadao.is_valid),
    (re.compile(r"(?<!\w)\d{6}/\d{3,4}(?!\w)"), rodne_cislo.is_valid),
    (re.compile(r"(?<!\w)[12] ?\d{2} ?\d{2} ?\d{2} ?\d{3} ?\d{3} ?\d{2}(?!\w)"), nir.is_valid),
)
_PHONE_WORD = re.compile(
    r"(?i)(?:phone|mobile|cell|call|fax|whatsapp|tel\b|tel[ée]f|telefon|t[ée]l\.|zadzwo|kom[oó]rk|handy|rufnummer|"
    r"nummer erreich|m[oó]vil|portable|cellular|bel |mob\.|mobiel|ligue|volejte|дзвон|тел\.|телеф)[^\n]{0,30}$"
)
_TAX_WORD = re.compile(r"(?i)(?:steuer|tax[ -]?id|idnr|identifikationsnummer)[^\n]{0,30}$")
_CARD_STARTS = ("2", "3", "4", "5", "6")
# The numbering plans asked for a number without a country code that stands after a word for "phone".
_REGIONS = ("US", "GB", "PL", "DE", "FR", "ES", "IT", "NL", "PT", "CZ", "UA", "BR")
_MOST, _ROUNDS = 400, 5
_ASKED = 240


def personal(text: str) -> Iterator[Span]:
    if "@" in text:
        for found in _EMAIL.finditer(text):
            yield Span("email", *found.span(), "[e-mail]")
    if _DIGITS.search(text):
        yield from _numbers(text)


def _numbers(text: str) -> Iterator[Span]:
    formed = list(_formed(text))
    yield from formed
    # What has been found is no part of a run of digits beside it: look again until nothing more is found.
    rest = _without(text, formed)
    plans = _Plans()
    for _ in range(_ROUNDS):
        found = [span for run in islice(_RUN.finditer(rest), _MOST) for span in _run(rest, run, plans)]
        yield from found
        if not found:
            break
        rest = _without(rest, found)


def _without(text: str, spans: Iterable[Span]) -> str:
    return mask(text, [replace(span, label="#" * (span.end - span.start)) for span in spans])


def _formed(text: str) -> Iterator[Span]:
    for found in _IBAN.finditer(text):
        if (end := _iban_end(found[0])) and iban_number.is_valid(found[0][:end]):
            yield Span("iban", found.start(), found.start() + end, "[iban]")
    for pattern, valid in _SIGNS:
        for found in pattern.finditer(text):
            if valid(found[0]):
                yield Span("national-number", *found.span(), "[national number]")
    for found in _SSN.finditer(text):
        yield Span("national-number", *found.span(), "[national number]")


def _iban_end(run: str) -> int:
    """How much of the run the country's length takes, so that a word after the number is not swallowed."""
    size = _IBAN_LENGTHS.get(run[:2].upper(), 0)
    seen = 0
    for at, character in enumerate(run):
        seen += character.isalnum()
        if seen == size:
            return at + 1 if not run[at + 1 : at + 2].isalnum() else 0
    return 0


_LENGTHS = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 "
    "EE20 EG29 ES24 FI18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IS26 IT27 "
    "JO30 KW30 KZ20 LB28 LI21 LT20 LU20 LV21 MC27 MD24 ME22 MK19 MT31 NL18 NO15 PK24 PL28 PT25 "
    "QA29 RO24 RS22 SA24 SE24 SI19 SK24 SM27 TN24 TR26 UA29 VA22 XK20 "
)
_IBAN_LENGTHS = {entry[:2]: int(entry[2:]) for entry in _LENGTHS.split()}


def _run(text: str, found: re.Match[str], plans: "_Plans") -> Iterator[Span]:
    run = found[0]
    digits = "".join(filter(str.isdecimal, run))
    before = text[max(0, found.start() - 40) : found.start()]
    if _is_card(digits):
        yield Span("card", *found.span(), "[card]")
    elif len(digits) == 11 and _is_national(run, digits, before):
        yield Span("national-number", *found.span(), "[national number]")
    elif 7 <= len(digits) <= 15 and plans.have(run, before):
        yield Span("phone", *found.span(), "[phone]")
    elif len(digits) > 15 and (card := _card_within(run)):
        yield Span("card", found.start() + card[0], found.start() + card[1], "[card]")


def _card_within(run: str) -> tuple[int, int] | None:
    """A card among other groups of digits, such as its expiry date."""
    groups = list(_GROUP.finditer(run))
    for at, first in enumerate(groups):
        digits = ""
        for last in groups[at:]:
            digits += last[0]
            if len(digits) in (15, 16) and _is_card(digits):
                return first.start(), last.end()
    return None


def _is_card(digits: str) -> bool:
    known = 13 <= len(digits) <= 19 and digits.isascii() and digits.startswith(_CARD_STARTS)
    return known and len(set(digits)) > 1 and luhn.is_valid(digits)


def _is_national(run: str, digits: str, before: str) -> bool:
    return (run.isdecimal() and pesel.is_valid(digits)) or bool(_TAX_WORD.search(before) and steuer_id.is_valid(digits))


class _Plans:
    """Whether numbering plans have a number. After many questions they are not asked: what looks like one is one."""

    def __init__(self) -> None:
        self.left = _ASKED

    def have(self, run: str, before: str) -> bool:
        if run.startswith("+"):
            return self._any(run, (None,))
        if run.startswith("00"):
            return self._any("+" + run[2:], (None,))
        return bool(_PHONE_WORD.search(before)) and self._any(run, _REGIONS)

    def _any(self, run: str, regions: tuple[str | None, ...]) -> bool:
        if self.left <= 0:
            return True
        self.left -= len(regions)
        return any(_valid(run, region) for region in regions)


def _valid(run: str, region: str | None) -> bool:
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(run, region))
    except phonenumbers.NumberParseException:
        return False


def same_as_in(value: str, kind: str, sources: str, digits_of_sources: str) -> bool:
    """Whether the sources hold this value, however it is spaced or cased there."""
    if kind == "email":
        return value.casefold() in sources
    bare = "".join(filter(str.isalnum, value)).casefold()
    return bare.removeprefix("00") in digits_of_sources
