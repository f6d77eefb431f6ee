"""Why a text is let through or stopped: each way it was read, the words in it, the rules, and what the policy says.

For people who look. The decision is `guardrails.screen`'s; what it is made of is read once more here, in full.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import islice
from typing import Final

from guardrails import normalise, screen
from guardrails.compiling import LOAN
from guardrails.found import Found
from guardrails.lexicon import Hit, lexicon
from guardrails.normalise import View
from guardrails.policy import Policy
from guardrails.rules import Rule, matches
from guardrails.screen import Screening, Seen
from guardrails.weighing import DOUBTFUL, SURE, weights

STAGES: Final = ("inbound", "outbound", "passage", "tool")
LETTERS: Final = 600
_MOST_READINGS, _MOST_WORDS, _MOST_LANGUAGES, _MOST_SHARES = 12, 40, 6, 8


@dataclass(frozen=True, slots=True)
class Word:
    """A word that stands for a concept, and the first few languages that have it; a mark belongs to none."""

    text: str
    concept: str
    languages: tuple[str, ...]
    more: int = 0


@dataclass(frozen=True, slots=True)
class Term:
    """One thing that a rule asks for, any of these concepts, and the words that say it there."""

    concepts: tuple[str, ...]
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Match:
    """A rule that a reading satisfies. `quote` is the place in the text; `judged`: a grey rule with a judge to ask;
    `refuted`: it does not act, because all that is there weighs too little to be an attack."""

    rule: Rule
    quote: str
    terms: tuple[Term, ...]
    judged: bool
    refuted: bool


@dataclass(frozen=True, slots=True)
class Share:
    """What a concept, two of them together, or a word (its `kind` is `word`) adds to the weight of a stretch.

    For the other kinds see `weighing.named`.
    """

    kind: str
    concepts: tuple[str, ...]
    weight: float


@dataclass(frozen=True, slots=True)
class Together:
    """What the words of the heaviest stretch weigh. `sure`: enough to stop it; `doubtful`: enough to ask a judge.

    `judged`: the policy has one.
    """

    weight: float
    sure: bool
    judged: bool
    quote: str
    shares: tuple[Share, ...]

    @property
    def doubtful(self) -> bool:
        return self.weight >= DOUBTFUL and not self.sure


@dataclass(frozen=True, slots=True)
class Reading:
    """One view of the text: its folded letters (the first `LETTERS`), its words for concepts, the rules that fit.

    `together`: what the words weigh, where there are enough of them and no rule is sure.
    """

    view: str
    text: str
    cut: bool
    words: tuple[Word, ...]
    matches: tuple[Match, ...]
    together: Together | None

    @property
    def acting(self) -> tuple[Match, ...]:
        return tuple(one for one in self.matches if not one.refuted and (one.judged or not one.rule.grey))


@dataclass(frozen=True, slots=True)
class Say:
    """What the policy says to a finding: whether its rule only logs, and until which day its words are allowed."""

    seen: Seen
    log_only: bool
    allowed_until: date | None
    grey: bool


@dataclass(frozen=True, slots=True)
class Explanation:
    """`refusal`: what the customer reads where this is blocked."""

    screening: Screening
    says: tuple[Say, ...]
    readings: tuple[Reading, ...]
    refusal: str


def explained(
    text: str, policy: Policy, stage: str = "inbound", *, languages: Sequence[str] | None = None, prompt: str = ""
) -> Explanation:
    """What the policy makes of a text. `languages`: those the agent speaks; `prompt`: what an answer may not repeat."""
    seen = _screened(text, policy, stage, languages, prompt)
    body = normalise.bounded(text)
    told = seen.action == "block" and stage in ("inbound", "outbound")
    return Explanation(
        screening=seen,
        says=tuple(_say(one, policy, stage, body) for one in seen.findings),
        readings=() if stage == "outbound" else tuple(islice(_readings(body, seen, policy, stage), _MOST_READINGS)),
        refusal=screen.refusal(policy, seen.language) if told else "",
    )


def _screened(text: str, policy: Policy, stage: str, languages: Sequence[str] | None, prompt: str) -> Screening:
    if stage == "outbound":
        return screen.outbound(text, policy, system_prompt=prompt)
    if stage == "inbound":
        return screen.inbound(text, policy, languages=languages)
    return screen.passage(text, policy) if stage == "passage" else screen.tool(text, policy)


def _say(seen: Seen, policy: Policy, stage: str, body: str) -> Say:
    rule = policy.rules[seen.rule]
    logs = seen.would != "allow" and policy.action(rule, stage) == "allow"
    entry = policy.exception(seen.rule, body, seen.start, seen.end)
    # The entry ends with its day, at the next one's first moment.
    last_day = datetime.fromtimestamp(entry.until - 1, UTC).date() if entry else None
    return Say(seen, logs, last_day, rule.grey)


def _readings(body: str, seen: Screening, policy: Policy, stage: str) -> Iterator[Reading]:
    """The text as it stands, and each disguise that says something else."""
    for view, scan, marks in screen.readings(body, normalise.plain(body)):
        hits = list(marks)
        found = Found(scan, hits, view.source, view.text if view.name == "plain" else "", stage)
        rules = _matches(view, found, Found(scan, hits, view.source), body, policy, stage)
        words = _words(view.text, sorted([*scan.hits(), *hits]))
        settled = any(not match.rule.grey and not match.refuted for match in rules)
        together = None if settled else _together(view, found, body, seen.language, stage, judged=policy.judged(stage))
        yield Reading(view.name, view.text[:LETTERS].strip(), len(view.text) > LETTERS, words, rules, together)


def _together(view: View, found: Found, body: str, language: str, stage: str, *, judged: bool) -> Together | None:
    heaviest, weigh = screen.weighed(view, found, language, stage), weights(stage)
    if not heaviest:
        return None
    read = view.text[heaviest.start : heaviest.end]
    shares = [Share(*share) for share in weigh.shares(heaviest.stretch)]
    shares += [Share("word", (word,), weight) for word, weight in weigh.wording.shares(read)]
    shares.sort(key=lambda share: -abs(share.weight))
    quote, sure = _quote(view, (heaviest.start, heaviest.end), body), heaviest.weight >= SURE
    return Together(heaviest.weight, sure, judged, quote, tuple(shares[:_MOST_SHARES]))


def _matches(view: View, found: Found, bare: Found, body: str, policy: Policy, stage: str) -> tuple[Match, ...]:
    """The rules that the words satisfy; those that they do not satisfy once they are weighed, are refuted."""
    acting = {rule.id: place for rule, place in matches(found, stage)}
    told = []
    for rule, first in matches(bare, stage):
        place = acting.get(rule.id, first)
        terms = tuple(Term(tuple(sorted(term)), _inside(term, place, view.text, found)) for term in rule.terms)
        judged = rule.grey and policy.judged(stage)
        told.append(Match(rule, _quote(view, place, body), terms, judged, rule.id not in acting))
    return tuple(told)


def _quote(view: View, place: tuple[int, int], body: str) -> str:
    start, end = view.locate(*place)
    return " ".join(body[start:end].split())[:LETTERS]


def _inside(term: frozenset[str], place: tuple[int, int], text: str, found: Found) -> tuple[str, ...]:
    start, end = place
    hits = [hit for hit in found.near(term, start, end) if start <= hit.start and hit.end <= end]
    return tuple(dict.fromkeys(_said(hit, text) for hit in hits))


def _said(hit: Hit, text: str) -> str:
    return text[hit.start : hit.end].strip()


def _words(text: str, hits: Sequence[Hit]) -> tuple[Word, ...]:
    """Each word of each concept once, with all languages that have it; what tells of a disguise is no word."""
    found: dict[tuple[str, str], int] = {}
    for hit in hits:
        if not hit.concept.startswith("@"):
            word = _said(hit, text), hit.concept
            if word in found or len(found) < _MOST_WORDS:
                found[word] = found.get(word, 0) | hit.languages
    return tuple(_word(said, concept, languages) for (said, concept), languages in found.items())


def _word(said: str, concept: str, languages: int) -> Word:
    codes = _codes(languages)
    return Word(said, concept, tuple(codes[:_MOST_LANGUAGES]), max(0, len(codes) - _MOST_LANGUAGES))


def _codes(languages: int) -> list[str]:
    """Of a mark, which belongs to no language, none. English first: most people who look know it."""
    mask = 0 if languages < 0 else languages & ~LOAN
    return sorted((code for at, code in enumerate(lexicon().codes) if mask >> at & 1), key=lambda code: code != "en")
