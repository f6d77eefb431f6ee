"""What customers signal, in three languages, and what only looks like it."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from escalations.signals import KINDS, PHRASES, Signals, signals

PERSON = [
    "Can I talk to a real person please?",
    "agent. human. now.",
    "No bots. Connect me to someone who works there.",
    "I'd like to SPEAK TO A MANAGER",
    "no I want a person to decide that",
    "Chcę rozmawiać z człowiekiem.",
    "chce rozmawiac z czlowiekiem",
    "Proszę mnie połączyć z konsultantem",
    "czy jest tam ktoś żywy? prosze o telefon do mnie",
    "Ich möchte mit einem Menschen sprechen.",
    "Bitte verbinden Sie mich mit einem Mitarbeiter, kein Chatbot.",
    "kann mich jemand zurueckrufen?",
]
LEGAL = [
    "My lawyer will file a claim.",
    "I am going to sue you, and I will dispute the charge with my bank.",
    "I'm a journalist at a consumer magazine and writing about your complaint handling.",
    "The stove exploded and burned my hand.",
    "I don't want to live any more.",
    "Zgłaszam sprawę do UOKiK i kieruję pozew do sądu.",
    "MÓJ ADWOKAT przygotowuje wezwanie",
    "Zgłaszam was na policję, to zwykłe wyłudzenie.",
    "nie chcę już... nie chcę żyć",
    "Danach übernimmt mein Anwalt und ich erstatte Anzeige.",
    "Ich werde mich bei der Aufsichtsbehörde beschweren und Schadensersatz fordern.",
    "Ich gehe damit an die Presse.",
]
ANGER = [
    "THIS IS THE THIRD TIME AND NOBODY ANSWERS",
    "Where is my money!!!",
    "Absolute joke of a company.",
    "you useless robot. Nobody helps, nobody cares.",
    "To jest jakaś kpina",
    "Oszuści. Nigdy więcej.",
    "Jestem wściekła, paczka rozwalona.",
    "Ich bin stinksauer.",
    "Unverschämt, dieser Laden. Nie wieder.",
]
PLAIN = [
    "How many days do I have to return an order?",
    "Can cast iron go into the dishwasher?",
    "Do I press the button on the lid before I open the stove?",
    "What is the phone number of customer service?",
    "Is the French press dishwasher-safe?",
    "How do I delete my account?",
    "Ile mam dni na zwrot zamówienia?",
    "Od ilu sztuk grawerujecie logo i ile to kosztuje?",
    "Czy gwarancja obejmuje odprysk emalii po upadku?",
    "Do jakiej kwoty mogę zapłacić za pobraniem?",
    "Wie viele Tage habe ich Zeit für die Rückgabe?",
    "Ist die Zahlung per Nachnahme nach Deutschland unmöglich?",
    "Kann ich auf Rechnung kaufen?",
    "Passt die Presse in den Rucksack? 😀",
]
THANKS = [
    "thanks",
    "Thank you very much!",
    "ok great, thanks",
    "Dziękuję bardzo za pomoc.",
    "super, dzięki",
    "ok danke",
    "Vielen Dank!",
]
NOT_ONLY_THANKS = [
    "thanks, and where is my parcel",
    "Great, how long does it take?",
    "super, wo ist mein Paket",
    "ok",
    "Dziękuję, ale paczka nie przyszła",
    "thanks for nothing",
    "",
    "?",
]


@pytest.mark.parametrize("message", PERSON)
def test_hears_a_wish_for_a_person(message: str) -> None:
    assert signals(message).asked_for_person


@pytest.mark.parametrize("message", LEGAL)
def test_hears_lawyers_authorities_press_and_harm(message: str) -> None:
    assert signals(message).legal


@pytest.mark.parametrize("message", ANGER)
def test_hears_anger(message: str) -> None:
    assert signals(message).anger


@pytest.mark.parametrize("message", PLAIN)
def test_hears_nothing_in_a_plain_question(message: str) -> None:
    assert signals(message) == Signals()


@pytest.mark.parametrize("message", THANKS)
def test_knows_a_mere_thanks(message: str) -> None:
    assert signals(message).thanks_only


@pytest.mark.parametrize("message", NOT_ONLY_THANKS)
def test_a_thanks_with_a_question_is_not_a_mere_thanks(message: str) -> None:
    assert not signals(message).thanks_only


@pytest.mark.parametrize("language", ["en", "pl", "de", "", "xx", "?"])
def test_every_language_is_heard_whatever_the_guess_was(language: str) -> None:
    assert signals("Proszę mnie połączyć z konsultantem", language).asked_for_person
    assert signals("my lawyer", language).legal


def test_a_threat_at_the_end_of_a_long_message_is_heard() -> None:
    assert signals("Where is my parcel? " * 900 + "My lawyer will write to you.").legal


def test_every_phrase_is_heard_by_itself() -> None:
    field = {"person": "asked_for_person", "legal": "legal", "anger": "anger", "thanks": "thanks_only"}
    for path in PHRASES.glob("*.yaml"):
        for kind, phrases in yaml.safe_load(path.read_text(encoding="utf-8")).items():
            assert kind in KINDS
            for phrase in phrases if kind in field else []:
                assert getattr(signals(phrase.replace("*", "")), field[kind]), (path.name, phrase)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300))
def test_no_text_breaks_it(text: str) -> None:
    signals(text)
