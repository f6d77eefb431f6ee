"""Secrets, personal data: what is found, and what only looks like it."""

import pytest

from guardrails.detectors import Span, mask
from guardrails.detectors.personal import personal
from guardrails.detectors.secrets import secrets


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("5555 5555 5555 4444", "card"),
        ("378282246310005", "card"),
        ("PL61 1090 1014 0000 0712 1981 2874", "iban"),
        ("GB82WEST12345698765432 please", "iban"),
        ("PESEL 44051401359", "national-number"),
        ("DNI 12345678Z", "national-number"),
        ("CF RSSMRA85T10A562S", "national-number"),
        ("SSN 536-22-1234", "national-number"),
        ("rodné číslo 710319/2745", "national-number"),
        ("Steuer-ID 36574261809", "national-number"),
        ("+1 (415) 555-2671", "phone"),
        ("0048 501 234 567", "phone"),
        ("my phone is 501 234 567", "phone"),
        ("x.y+z@mail.example.org", "email"),
    ],
)
def test_finds_personal_data(text: str, kind: str) -> None:
    assert kind in {span.kind for span in personal(text)}


@pytest.mark.parametrize(
    "text",
    [
        "order 4111111111111112",
        "order number 0000 0000 0000 0000",
        "tracking 1Z999AA10123456784",
        "PL61 1090 1014 0000 0712 1981 2875",
        "order 44051401358",
        "invoice 2024/11/000123",
        "501234567",
        "version 10.2.33.4, built 20241123",
        "on 2026-11-23 at 14:30",
        "user@localhost",
    ],
)
def test_leaves_numbers_alone_that_only_look_like_it(text: str) -> None:
    assert [span.kind for span in personal(text)] == []


@pytest.mark.parametrize(
    "secret",
    [
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_" + "a1B2" * 9,
        "sk-proj-" + "Ab1_" * 8,
        "xoxb-1234567890-abcdefghij",
        "AIza" + "Sy0-" * 8 + "abc",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_masks_a_whole_secret(secret: str) -> None:
    assert mask(f"here: {secret} !", secrets(f"here: {secret} !")) == "here: [secret] !"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("password: hunter2!x", "password: [secret]"),
        ("moje hasło: Tajne123", "moje hasło: [secret]"),
        ("postgres://app:s3cr3t@db.example/x", "postgres://app:[secret]@db.example/x"),
    ],
)
def test_masks_a_password_and_keeps_what_surrounds_it(text: str, masked: str) -> None:
    assert mask(text, secrets(text)) == masked


@pytest.mark.parametrize(
    "text",
    [
        "how do I reset the password?",
        "my password is not working",
        "token of appreciation",
        "sk-2 bolts",
        "the key is under the mat",
    ],
)
def test_talk_about_passwords_is_no_secret(text: str) -> None:
    assert list(secrets(text)) == []


def test_overlapping_spans_are_masked_once() -> None:
    assert mask("abcdef", [Span("a", 1, 4, "[x]"), Span("b", 2, 6, "[y]")]) == "a[x]ef"
