"""Invoices: read strictly, kept once, compared with the log by model and day."""

from __future__ import annotations

from datetime import date

import pytest
from django.db import DatabaseError, transaction

from budgets import invoices
from budgets.invoices import Difference, Line, Unreadable, compare, read
from budgets.models import Invoice, InvoiceLine

FIRST, LAST = date(2026, 11, 1), date(2026, 11, 30)
DOLLAR = 10**9


def test_a_plain_file_is_read() -> None:
    text = "\ufeffModel,Amount (USD),Date\r\ngpt-4o,$12.50,2026-11-03\r\n\r\nlocal,0.000000001,2026-11-04T00:00:00Z\r\n"
    assert read(text) == [
        Line("gpt-4o", 12_500_000_000, date(2026, 11, 3), date(2026, 11, 3)),
        Line("local", 1, date(2026, 11, 4), date(2026, 11, 4)),
    ]


def test_lines_without_days_have_those_of_the_invoice() -> None:
    assert read("model,amount\na,1", FIRST, LAST) == [Line("a", DOLLAR, FIRST, LAST)]
    assert read("model,amount,from,to\na,1,2026-11-02,2026-11-08", FIRST, LAST) == [
        Line("a", DOLLAR, date(2026, 11, 2), date(2026, 11, 8))
    ]


@pytest.mark.parametrize(
    ("text", "nano"),
    [
        ('model,amount\na,"1,234.5"', 1_234_500_000_000),
        ("model;amount\na;12,34", 12_340_000_000),
        ("model;amount\na;1,234.50", 1_234_500_000_000),
        ("model\tcost\na\t-3", -3_000_000_000),
        ("model,cost_usd\na,1 USD", DOLLAR),
    ],
)
def test_amounts_of_many_hands(text: str, nano: int) -> None:
    assert read(text, FIRST, LAST)[0].nano == nano


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "model and amount is not among them"),
        ("model,tokens\na,1", "amount is not among them"),
        ("model,amount_eur\na,1", "amount is not among them"),
        ("model,amount", "no line below"),
        ("model,amount\n,1", "Line 2 names no model"),
        ("model,amount\na,x", "Line 2: “x” is no amount"),
        ("model,amount\na,", "is no amount"),
        ("model,amount\na,nan", "is no amount"),
        ("model,amount\na,1e99", "is no amount"),
        ('model,amount\na,"1,23"', "is no amount"),
        ("model,amount\na,9000001", "at most 9 million"),
        ("model,amount,day\na,1,yesterday", "is no date"),
        ("model,amount,from,to\na,1,2026-11-08,2026-11-02", "not a span"),
        ("model,amount,from,to\na,1,0001-01-01,9999-12-31", "not a span"),
        ("model,amount,day\na,1,2020-01-01\na,1,2026-01-01", "more than a year"),
        ("model,amount\n\x00,1", "not a text file"),
        ('model,amount\n"a,1', "not CSV"),
        ("model,amount\n" + "a,1\n" * 10_001, "More than 10,000"),
        ("model,amount\n" + "".join(f"m{n},1\n" for n in range(501)), "More than 500"),
        ("<html>\n<body>", "is not among them"),
    ],
)
def test_a_bad_file_is_refused_in_plain_words(text: str, says: str) -> None:
    with pytest.raises(Unreadable, match=says):
        read(text, FIRST, LAST)


def test_lines_without_days_need_those_of_the_invoice() -> None:
    with pytest.raises(Unreadable, match="says no days"):
        read("model,amount\na,1")


def test_it_is_compared_by_model_and_day() -> None:
    ours = {
        ("a", FIRST): (DOLLAR, 0),
        ("a", LAST): (DOLLAR, 3),
        ("a", date(2026, 12, 1)): (50 * DOLLAR, 0),
        ("b", FIRST): (100, 0),
        ("only-ours", FIRST): (7, 0),
    }
    found, unnamed = compare([Line("a", 3 * DOLLAR, FIRST, LAST), Line("b", 101, FIRST, FIRST)], ours)
    assert found == [Difference("a", 3 * DOLLAR, 2 * DOLLAR, 3), Difference("b", 101, 100, 0)]
    assert (found[0].nano, found[0].share, found[0].flagged) == (DOLLAR, 0.5, True)
    assert not found[1].flagged
    assert unnamed == {"only-ours": 7}


def test_two_lines_of_one_day_count_it_once() -> None:
    found, _ = compare([Line("a", 1, FIRST, FIRST), Line("a", 1, FIRST, FIRST)], {("a", FIRST): (2, 0)})
    assert found == [Difference("a", 2, 2)]


def test_a_model_is_known_without_its_date_and_provider() -> None:
    ours = {("gpt-4o-mini", FIRST): (10, 0), ("openai/gpt-4o", FIRST): (5, 0)}
    lines = [Line("gpt-4o-mini-2024-07-18", 10, FIRST, FIRST), Line("GPT-4o", 5, FIRST, FIRST)]
    found, unnamed = compare(lines, ours)
    assert {one.model: one.ours_nano for one in found} == {"gpt-4o-mini-2024-07-18": 10, "GPT-4o": 5}
    assert unnamed == {}


def test_what_we_never_saw_is_flagged_without_a_share() -> None:
    ((one,), _) = compare([Line("ghost", 1, FIRST, LAST)], {})
    assert (one.ours_nano, one.share, one.flagged) == (None, None, True)


@pytest.mark.django_db
def test_it_is_kept_once_and_for_good() -> None:
    text = "model,amount\na,1\nb,2"
    invoice = invoices.keep(read(text, FIRST, LAST), text, name="november.csv", actor="user:ada")
    assert (invoice.nano, invoice.starts, invoice.ends, invoice.lines.count()) == (3 * DOLLAR, FIRST, LAST, 2)
    with pytest.raises(Unreadable, match="by ada already"):
        invoices.keep(read(text, FIRST, LAST), text, name="again.csv", actor="user:ben")
    for rows in (Invoice.objects.all(), InvoiceLine.objects.all()):
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            rows.update(nano=1)
