"""A provider's invoice as CSV: read strictly, kept as it was, and compared with what the call log says."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

from django.db import transaction

from budgets.models import MAX_NANO, Invoice, InvoiceLine

NANO = 1_000_000_000
MOST_BYTES = 1_000_000
MOST_LINES = 10_000
MOST_MODELS = 500
LONGEST_DAYS = 366
FLAGGED = 0.02
COLUMNS = {
    "model": ("model", "model name", "model_name"),
    "amount": ("amount", "amount usd", "amount_usd", "amount (usd)", "cost", "cost usd", "cost_usd", "cost (usd)"),
    "day": ("day", "date"),
    "from": ("from", "start", "starts", "start date", "start_date"),
    "to": ("to", "end", "ends", "end date", "end_date"),
}  # fmt: skip
PLAIN = re.compile(r"-?(\d{1,3}(,\d{3})+|\d{1,12})(\.\d{1,12})?")
COMMA = re.compile(r"-?\d{1,12},(\d{1,2}|\d{4,12})")
DATED = re.compile(r"-(\d{4}-?\d{2}-?\d{2}|\d{4})$")


class Unreadable(Exception):
    """The file is no invoice that we can read; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Line:
    """What a provider asks for one model from the first to the last day, both included."""

    model: str
    nano: int
    starts: date
    ends: date


@dataclass(frozen=True, slots=True)
class Difference:
    """One model: what was invoiced, what our log says for the same days, None where it has no priced call."""

    model: str
    invoiced_nano: int
    ours_nano: int | None
    unpriced: int = 0

    @property
    def nano(self) -> int:
        return self.invoiced_nano - (self.ours_nano or 0)

    @property
    def share(self) -> float | None:
        """Of our figure; None where we have none."""
        return self.nano / self.ours_nano if self.ours_nano else None

    @property
    def flagged(self) -> bool:
        return bool(self.nano) and (self.share is None or abs(self.share) > FLAGGED)


def read(text: str, starts: date | None = None, ends: date | None = None) -> list[Line]:
    """The invoice's lines; `starts` and `ends` hold for lines that name no days themselves.

    :raises Unreadable: in words for who uploaded it.
    """
    if "\x00" in text:
        raise Unreadable("This is not a text file.")
    delimiter = _delimiter(text)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    found: list[Line] = []
    try:
        columns = _columns(next(rows, []))
        for row in rows:
            if not any(cell.strip() for cell in row):
                continue
            if len(found) >= MOST_LINES:
                raise Unreadable(f"More than {MOST_LINES:,} lines: split the file.")
            cells = {name: row[place].strip() if place < len(row) else "" for name, place in columns.items()}
            found.append(_line(cells, rows.line_num, delimiter, starts, ends))
    except csv.Error as error:
        raise Unreadable(f"Line {rows.line_num} is not CSV: {error}.") from error
    if not found:
        raise Unreadable("There is no line below the heading.")
    if len({line.model for line in found}) > MOST_MODELS:
        raise Unreadable(f"More than {MOST_MODELS} different models: is the right column called model?")
    if (max(line.ends for line in found) - min(line.starts for line in found)).days >= LONGEST_DAYS:
        raise Unreadable("The invoice spans more than a year: split it.")
    return found


@transaction.atomic
def keep(lines: Sequence[Line], text: str, *, name: str, actor: str) -> Invoice:
    """Store the invoice. :raises Unreadable: this file for these days is there already."""
    sha = hashlib.sha256(text.encode()).hexdigest()
    starts, ends = min(line.starts for line in lines), max(line.ends for line in lines)
    if there := Invoice.objects.filter(sha256=sha, starts=starts, ends=ends).first():
        raise Unreadable(f"This file was imported on {there.at:%Y-%m-%d} by {there.actor.partition(':')[2]} already.")
    total = sum(line.nano for line in lines)
    invoice = Invoice.objects.create(sha256=sha, name=name, actor=actor, starts=starts, ends=ends, nano=total)
    InvoiceLine.objects.bulk_create(
        InvoiceLine(invoice=invoice, model=line.model, nano=line.nano, starts=line.starts, ends=line.ends)
        for line in lines
    )
    return invoice


def compare(
    lines: Iterable[Line | InvoiceLine], ours: Mapping[tuple[str, date], tuple[int, int]]
) -> tuple[list[Difference], dict[str, int]]:
    """Each invoiced model against our (cost, unpriced calls) by model and day (UTC); and what it does not mention.

    "gpt-4o-mini-2024-07-18" and "openai/gpt-4o-mini" are "gpt-4o-mini": a model is found by its own name first, then
    without provider and date.
    """
    invoiced: dict[str, int] = {}
    days: dict[str, set[date]] = {}
    for line in lines:
        invoiced[line.model] = invoiced.get(line.model, 0) + line.nano
        days.setdefault(line.model, set()).update(_days(line.starts, line.ends))
    names = _matches(invoiced, {model for model, _ in ours})
    found = []
    for model, nano in invoiced.items():
        sums = [ours[key] for key in ours if names.get(key[0]) == model and key[1] in days[model]]
        cost = sum(cost for cost, _ in sums) if sums else None
        found.append(Difference(model, nano, cost, sum(unpriced for _, unpriced in sums)))
    unnamed: dict[str, int] = {}
    for (model, _), (cost, _unpriced) in ours.items():
        if model not in names and cost:
            unnamed[model] = unnamed.get(model, 0) + cost
    return sorted(found, key=lambda one: -abs(one.nano)), unnamed


def _matches(invoiced: Iterable[str], ours: Iterable[str]) -> dict[str, str]:
    """Our model names, each with the invoiced name that means it."""
    exact = {name.casefold(): name for name in invoiced}
    bare = {_bare(name): name for name in exact.values()}
    found = {name: exact.get(name.casefold()) or bare.get(_bare(name)) for name in ours}
    return {name: match for name, match in found.items() if match}


def _bare(model: str) -> str:
    return DATED.sub("", model.casefold().rpartition("/")[2])


def _days(starts: date, ends: date) -> Iterator[date]:
    return (starts + timedelta(days=n) for n in range((ends - starts).days + 1))


# --- reading -------------------------------------------------------------------------------------------------------


def _delimiter(text: str) -> str:
    heading = text.lstrip("\ufeff").partition("\n")[0]
    return max(",;\t", key=heading.count)


def _columns(heading: Sequence[str]) -> dict[str, int]:
    cells = [cell.strip().lstrip("\ufeff").casefold() for cell in heading]
    found = {
        name: next((place for place, cell in enumerate(cells) if cell in known), -1) for name, known in COLUMNS.items()
    }
    if missing := [name for name in ("model", "amount") if found[name] < 0]:
        raise Unreadable(f"The first line names the columns; {' and '.join(missing)} is not among them.")
    return {name: place for name, place in found.items() if place >= 0}


def _line(cells: Mapping[str, str], number: int, delimiter: str, starts: date | None, ends: date | None) -> Line:
    model = cells["model"]
    if not 0 < len(model) <= 120:
        raise Unreadable(f"Line {number} names no model.")
    day = _date(cells.get("day", ""), number)
    first = day or _date(cells.get("from", ""), number) or starts
    last = day or _date(cells.get("to", ""), number) or ends
    if first is None or last is None:
        raise Unreadable(f"Line {number} says no days: say below from when to when the invoice is.")
    if not 0 <= (last - first).days < LONGEST_DAYS:
        raise Unreadable(f"Line {number}: {first} to {last} is not a span within a year.")
    return Line(model, _amount(cells["amount"], number, delimiter), first, last)


def _date(text: str, number: int) -> date | None:
    if not text:
        return None
    try:
        return date.fromisoformat(text[:10])
    except ValueError as error:
        raise Unreadable(f"Line {number}: “{text[:30]}” is no date like 2026-11-30.") from error


def _amount(text: str, number: int, delimiter: str) -> int:
    """Nano-dollars. A comma is a decimal point only where it cannot be anything else."""
    plain = text.replace("$", "").replace("USD", "").replace("\u00a0", "").strip()
    if delimiter != "," and COMMA.fullmatch(plain):
        plain = plain.replace(",", ".")
    if not PLAIN.fullmatch(plain):
        raise Unreadable(f"Line {number}: “{text[:30]}” is no amount in dollars like 12.34.")
    nano = int(Decimal(plain.replace(",", "")) * NANO)
    if abs(nano) > MAX_NANO:
        raise Unreadable(f"Line {number}: an amount is at most 9 million dollars.")
    return nano
