"""Personal data with a form that can be checked: e-mail addresses, phones, cards, IBANs, national numbers.

Each look-up starts from a cheap sign (an @, a run of digits); checksums and numbering plans decide.
"""

import re
from collections.abc import Callable, Iterator

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

from guardrails.detectors import Span

_EMAIL = re.compile(r"(?<![\w.+%-])[\w.+%-]{1,64}@(?:[\w-]{1,63}\.){1,5}[^\W\d_]{2,24}(?![\w])")
_DIGITS = re.compile(r"(?:\d\D{0,8}){6}\d")
_RUN = re.compile(r"(?<![\w.,/-])(?:\+|00)?\(?\d(?:[ \u00a0.()/-]{0,3}\d){6,22}(?!\w|[.,]\d)")
_IBAN = re.compile(
    r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]{4}){2,7}(?:[ -]?[A-Za-z0-9]{1,4})?(?![A-Za-z0-9])"
)
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
    r"(?i)(?:phone|mobile|cell|call|fax|whatsapp|tel\b|tel[ée]f|telefon|t[ée]l\.|zadzwo|kom[oó]rk|handy|rufnummer|nummer erreich|m[oó]vil|"
    r"portable|cellular|bel |mob\.|mobiel|ligue|volejte|дзвон|тел\.|телеф)[^\n]{0,30}$"
)
_TAX_WORD = re.compile(r"(?i)(?:steuer|tax[ -]?id|idnr|identifikationsnummer)[^\n]{0,30}$")
_CARD_STARTS = ("2", "3", "4", "5", "6")
# The numbering plans asked for a number without a country code that stands after a word for "phone".
_REGIONS = ("US", "GB", "PL", "DE", "FR", "ES", "IT", "NL", "PT", "CZ", "UA", "BR")
_MOST = 400


def personal(text: str) -> Iterator[Span]:
    if "@" in text:
        for found in _EMAIL.finditer(text):
            yield Span("email", *found.span(), "[e-mail]")
    if _DIGITS.search(text):
        yield from _numbers(text)


def _numbers(text: str) -> Iterator[Span]:
    for found in _IBAN.finditer(text):
        if (end := _iban_end(found[0])) and iban_number.is_valid(found[0][:end]):
            yield Span("iban", found.start(), found.start() + end, "[iban]")
    for pattern, valid in _SIGNS:
        for found in pattern.finditer(text):
            if valid(found[0]):
                yield Span("national-number", *found.span(), "[national number]")
    for found in _SSN.finditer(text):
        yield Span("national-number", *found.span(), "[national number]")
    for count, found in enumerate(_RUN.finditer(text)):
        if count == _MOST:
            break
        yield from _run(text, found)


def _iban_end(run: str) -> int:
    """How much of the run the country's length takes, so that a word after the number is not swallowed."""
    size = iban_lengths().get(run[:2].upper(), 0)
    seen = 0
    for at, character in enumerate(run):
        seen += character.isalnum()
        if seen == size:
            return at + 1
    return 0


def iban_lengths() -> dict[str, int]:
    return _IBAN_LENGTHS


_IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "BY": 28, "CH": 21, "CR": 22,
    "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22,
    "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20,
    "LB": 28, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MT": 31, "NL": 18, "NO": 15, "PK": 24,
    "PL": 28, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "TN": 24, "TR": 26, "UA": 29,
    "VA": 22, "XK": 20,
}  # fmt: skip


def _run(text: str, found: re.Match[str]) -> Iterator[Span]:
    run = found[0]
    digits = "".join(filter(str.isdecimal, run))
    before = text[max(0, found.start() - 40) : found.start()]
    if _is_card(digits):
        yield Span("card", *found.span(), "[card]")
    elif len(digits) == 11 and _is_national(run, digits, before):
        yield Span("national-number", *found.span(), "[national number]")
    elif 7 <= len(digits) <= 15 and _is_phone(run, before):
        yield Span("phone", *found.span(), "[phone]")


def _is_card(digits: str) -> bool:
    known = 13 <= len(digits) <= 19 and digits.isascii() and digits.startswith(_CARD_STARTS)
    return known and len(set(digits)) > 1 and luhn.is_valid(digits)


def _is_national(run: str, digits: str, before: str) -> bool:
    return (run.isdecimal() and pesel.is_valid(digits)) or bool(_TAX_WORD.search(before) and steuer_id.is_valid(digits))


def _is_phone(run: str, before: str) -> bool:
    if run.startswith("+"):
        return _valid(run, None)
    if run.startswith("00"):
        return _valid("+" + run[2:], None)
    return bool(_PHONE_WORD.search(before)) and any(_valid(run, region) for region in _REGIONS)


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
