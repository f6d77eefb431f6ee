"""The same seed brings the same customers; the profiles differ in what they say and when they come."""

from random import Random

import pytest

from agents.demo import content, traffic
from agents.demo.content import Message


@pytest.mark.parametrize("profile", content.PROFILES)
@pytest.mark.parametrize("turns", [1, 7, 100, 500])
def test_a_plan_has_exactly_the_turns_asked_for(profile, turns):
    assert sum(len(visit.messages) for visit in traffic.plan(profile, turns, seed=3)) == turns


@pytest.mark.parametrize("profile", content.PROFILES)
def test_the_same_seed_gives_the_same_plan(profile):
    assert traffic.plan(profile, 250, seed=5) == traffic.plan(profile, 250, seed=5)
    assert traffic.plan(profile, 250, seed=5) != traffic.plan(profile, 250, seed=6)


def test_a_longer_run_begins_like_the_shorter_one():
    shorter, longer = (traffic.plan("production", turns, seed=2) for turns in (40, 80))
    assert longer[: len(shorter) - 1] == shorter[:-1]


def test_everything_is_said_once_before_anything_is_said_twice():
    conversations = content.customers("attack")
    visits = traffic.plan("attack", sum(len(each.messages) for each in conversations), seed=1)
    assert sorted(visit.conversation for visit in visits) == sorted(each.id for each in conversations)


def test_a_pilot_speaks_exactly_as_written():
    written = {message.text for each in content.customers("pilot") for message in each.messages}
    assert {message.text for visit in traffic.plan("pilot", 300, seed=9) for message in visit.messages} == written


def test_production_is_garbled_now_and_then():
    written = {message.text for each in content.customers("production") for message in each.messages}
    said = [message.text for visit in traffic.plan("production", 400, seed=9) for message in visit.messages]
    garbled = [text for text in said if text not in written]
    assert 0.1 < len(garbled) / len(said) < 0.4


def test_a_garbled_question_may_go_to_a_person():
    plain = Message("Where can I download a duplicate of my invoice?", frozenset({"answered"}), ("en-invoices",))
    random = Random(1)
    garbled = [traffic._garbled(plain, random) for _ in range(30)]
    assert all(message.outcomes >= {"answered", "escalated"} for message in garbled if message.text != plain.text)
    assert all(message.articles == plain.articles for message in garbled)


def test_garbling_never_makes_a_threat_answerable():
    threat = Message("I am going to sue you.", frozenset({"escalated"}), ())
    random = Random(1)
    assert {traffic._garbled(threat, random).outcomes for _ in range(30)} == {frozenset({"escalated"})}


def test_garbling_leaves_numbers_links_and_other_scripts_alone():
    random = Random(4)
    for text in ("4111 1111 1111 1111", "https://attacker.example/abcdef", "ትዕዛዜ መቼ ይደርሳል", "გამარჯობა", "👍", ""):
        assert {garbler(text, random) for garbler in (traffic._swap, traffic._drop, traffic._double)} == {text}


def test_diacritics_are_dropped_in_latin_only():
    assert traffic._without_diacritics("Łódź für Größe, й, ê", Random(1)) == "Lodz fur Große, й, e"


def test_an_attack_that_comes_again_is_dressed_differently():
    visits = traffic.plan("attack", 250, seed=1)
    texts = [message.text for visit in visits for message in visit.messages]
    written = {message.text for each in content.customers("attack") for message in each.messages}
    again = [text for text in texts if text not in written]
    assert again
    assert all(text.startswith(traffic.GREETINGS) for text in again)


def test_customers_come_in_order_and_at_the_rate_asked_for():
    for profile in content.PROFILES:
        times = [visit.at for visit in traffic.plan(profile, 2000, seed=1, rate=20)]
        assert times == sorted(times)
        assert 70 < times[-1] < 140


def test_production_has_peaks_and_a_pilot_has_none():
    def busiest(profile):
        times = [int(visit.at * 4) for visit in traffic.plan(profile, 500, seed=1)]
        return max(times.count(slot) for slot in set(times))

    assert busiest("pilot") <= 4
    assert busiest("production") >= 8
