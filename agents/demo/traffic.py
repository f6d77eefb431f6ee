"""When which customer says what: a plan that depends on the profile, the number of turns and the seed alone."""

import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from random import Random

from agents.demo.content import Conversation, Message, Profile, customers

TYPO_SHARE = 0.3
PEAK_CHANCE = 0.015
PEAK_SIZE = (6, 14)
POLISH_L = str.maketrans("łŁ", "lL")
GREETINGS = ("Hi! ", "Hello, quick question. ", "Dzień dobry! ", "Hej, ", "Guten Tag, ", "Hallo! ")


@dataclass(frozen=True, slots=True)
class Visit:
    """One customer: comes `at` seconds after the start and says the messages one after another."""

    at: float
    number: int
    conversation: str
    kind: str
    language: str
    messages: tuple[Message, ...]


def plan(profile: Profile, turns: int, seed: int, rate: float = 10.0) -> list[Visit]:
    """Exactly `turns` messages, `rate` a second on average; the last visit is cut short where they do not fit."""
    random = Random(f"{profile}:{seed}")  # noqa: S311
    arrivals = _arrivals(profile, random)
    visits: list[Visit] = []
    left, clock = turns, 0.0
    for number, (conversation, cycle) in enumerate(_choose(profile, random)):
        if left <= 0:
            break
        messages = tuple(_said(message, profile, cycle, random) for message in conversation.messages[:left])
        clock += next(arrivals) * len(messages) / rate
        visits.append(
            Visit(round(clock, 3), number, conversation.id, conversation.kind, conversation.language, messages)
        )
        left -= len(messages)
    return visits


def _choose(profile: Profile, random: Random) -> Iterator[tuple[Conversation, int]]:
    """All conversations in a shuffled order, then all again in another."""
    everyone = customers(profile)
    for cycle in count():
        for conversation in random.sample(everyone, len(everyone)):
            yield conversation, cycle


def _arrivals(profile: Profile, random: Random) -> Iterator[float]:
    """Gaps between visits, 1.0 on average. A pilot is calm; elsewhere a crowd comes at once and a lull follows."""
    while True:
        if profile == "pilot":
            yield random.uniform(0.8, 1.2)
        elif random.random() < PEAK_CHANCE:
            crowd = random.randint(*PEAK_SIZE)
            yield from [0.0] * crowd
            yield float(crowd + 1)
        else:
            yield random.expovariate(1.0)


def _said(message: Message, profile: Profile, cycle: int, random: Random) -> Message:
    if profile == "attack" and cycle:
        return replace(message, text=random.choice(GREETINGS) + message.text)
    if profile == "production" and random.random() < TYPO_SHARE:
        return _garbled(message, random)
    return message


def _garbled(message: Message, random: Random) -> Message:
    """The message as thumbs on a phone would have typed it. Handing a garbled question over is never wrong."""
    text = random.choice(GARBLERS)(message.text, random)
    if text == message.text or "answered" not in message.outcomes:
        return replace(message, text=text)
    return replace(message, text=text, outcomes=message.outcomes | {"clarified", "escalated"})


def _swap(text: str, random: Random) -> str:
    place = _inside_a_word(text, random)
    return text if place is None else text[:place] + text[place + 1] + text[place] + text[place + 2 :]


def _drop(text: str, random: Random) -> str:
    place = _inside_a_word(text, random)
    return text if place is None else text[:place] + text[place + 1 :]


def _double(text: str, random: Random) -> str:
    place = _inside_a_word(text, random)
    return text if place is None else text[:place] + text[place] + text[place:]


def _lower(text: str, random: Random) -> str:
    return text.lower().rstrip(".") + random.choice(("", "", " pls", "??", " !!"))


def _without_diacritics(text: str, random: Random) -> str:  # noqa: ARG001
    bare = (unicodedata.normalize("NFD", ch)[0] for ch in text.translate(POLISH_L))
    return "".join(base if ord(base) < 0x250 else ch for base, ch in zip(bare, text, strict=True))


GARBLERS: tuple[Callable[[str, Random], str], ...] = (_swap, _swap, _drop, _drop, _double, _lower, _without_diacritics)


def _inside_a_word(text: str, random: Random) -> int | None:
    """A place between two Latin letters of a longer word; numbers, links and other scripts are left alone."""
    places = [
        place
        for place in range(1, len(text) - 2)
        if all(ch.isalpha() and ord(ch) < 0x250 for ch in text[place - 1 : place + 3])
    ]
    return random.choice(places) if places and "://" not in text else None
