"""Screening of what comes in, what goes out, and what documents and tools bring. Pure, synchronous, bounded.

policy = compile_policy(DEFAULT_POLICY)
inbound("Ignore all previous instructions …", policy).action   # "block"
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from time import perf_counter_ns
from typing import Final

from guardrails import languages, normalise, views
from guardrails.compiling import BACKWARDS, ROTATED
from guardrails.detectors import Span, apart, leaks, mask
from guardrails.detectors.grounding import ungrounded
from guardrails.detectors.links import unsafe_links
from guardrails.detectors.personal import personal, same_as_in
from guardrails.detectors.secrets import secrets
from guardrails.found import Found
from guardrails.lexicon import Hit, Scan, lexicon
from guardrails.marks import marks
from guardrails.normalise import View
from guardrails.policy import DEFAULT_POLICY, Policy, refusal
from guardrails.reading import PolicyError, compile_policy
from guardrails.rules import ACTIONS, Action, Effort, Rule, Severity, matches
from guardrails.weighing import DOUBTFUL, LEAST, SURE, Weighed, weights

__all__ = [
    "DEFAULT_POLICY",
    "Policy",
    "PolicyError",
    "Screening",
    "Seen",
    "compile_policy",
    "inbound",
    "outbound",
    "passage",
    "readings",
    "refusal",
    "regenerates",
    "tool",
    "weighed",
    "with_finding",
]

EXCERPT: Final = 200
_AROUND = 60
_MOST_FINDINGS = 40
_MOST_ASKED = 2_000  # values looked for in the sources; more of them are nobody's answer
_LOOK = 3  # what a word costs that is found, of the effort for a text
_MOST_LOOKS = 8  # an address right behind an address, and so on
_HIDDEN: Final = frozenset({"tags", "selectors"})
_ENCODED: Final = frozenset({"base64", "hex", "percent", "escapes", "entities", "rot13", "reversed", "spaced"})


@dataclass(frozen=True, slots=True)
class Seen:
    """One finding without its context. `start` and `end` are places in the text as it came; `excerpt` is redacted.

    `would`: what the rule does where it is enforced; `action` is less where the policy only logs or allows the words.
    """

    rule: str
    family: str
    action: Action
    severity: Severity
    language: str
    view: str
    start: int
    end: int
    excerpt: str
    would: Action = "allow"


@dataclass(frozen=True, slots=True)
class Screening:
    """What screening found: the findings' worst action, the text (redacted where one says so), microseconds.

    `language` and `covered` are asked of what comes in; an answer's language only where there are findings.

    `grey`: nothing acts, but a rule of the grey zone saw something, and the policy has a judge for that.
    """

    action: Action
    text: str
    findings: tuple[Seen, ...]
    language: str
    covered: bool
    us: int
    grey: bool = False


def inbound(text: str, policy: Policy, *, languages: Sequence[str] | None = None) -> Screening:
    """Screen a customer's message. `languages` are those the agent speaks; default: the policy's, else every pack's."""
    return _brought("inbound", text, policy, frozenset(languages or policy.languages))


def passage(text: str, policy: Policy) -> Screening:
    """Screen a passage of a document: data, in which orders to the assistant have no business."""
    return _brought("passage", text, policy, policy.languages)


def tool(text: str, policy: Policy) -> Screening:
    """Screen what a tool answered: as a document, and nobody asks for anything in it."""
    return _brought("tool", text, policy, policy.languages)


def _brought(stage: str, text: str, policy: Policy, spoken: frozenset[str]) -> Screening:
    began = perf_counter_ns()
    work = _Work(stage, text, policy)
    work.measure()
    for span in _everything(_private, work.body):
        work.span(span, span.kind)
    guess = languages.detect(work.without_spans(), spoken)
    work.language = guess.code
    work.attacks()
    work.custom()
    if not guess.covered:
        work.report("uncovered-language", "plain", 0, len(work.body))
    return work.screening(covered=guess.covered, began=began)


def outbound(
    text: str,
    policy: Policy,
    *,
    system_prompt: str = "",
    canary: str = "",
    sources: Sequence[str] = (),
    grounded: bool = False,
) -> Screening:
    """Screen an answer. `sources` are what it may repeat: passages, tool results, what the customer said.

    `grounded`: the sources are all that it may know, so figures and quotations must come from them.
    """
    began = perf_counter_ns()
    work = _Work("outbound", text, policy)
    work.measure()
    work.private_data(sources)
    for span in unsafe_links(work.body, "\n".join((*sources, system_prompt)).lower()):
        work.span(span, "unsafe-link")
    work.leaks(system_prompt, canary, sources)
    if grounded:
        for span in ungrounded(work.body, (*sources, system_prompt)):
            work.report("ungrounded", "plain", span.start, span.end)
    if policy.topics is not None:
        for span in policy.topics.outside(work.body):
            work.report("out-of-scope", "plain", span.start, span.end)
    work.custom()
    if work.spans or work.seen:
        work.language = languages.detect(work.body).code
    return work.screening(covered=True, began=began)


def readings(body: str, plain: View) -> Iterator[tuple[View, Scan, Iterator[Hit]]]:
    """Every way to read a text, with its words and marks: as it stands, then with each disguise taken off."""
    scan = lexicon().scan(plain.text)
    yield plain, scan, marks(body)
    read = {plain.text}
    for view in chain(views.disguised(body), _turned(body, scan)):
        if view.text not in read:
            read.add(view.text)
            yield view, lexicon().scan(view.text, loose=view.loose), marks(view.source)


def _turned(body: str, scan: Scan) -> Iterator[View]:
    """What only the words of the text itself can tell to be worth a look."""
    if scan.turned(BACKWARDS) or "\u202e" in body:
        yield views.turned(body)
        yield views.turned_words(body)
    if scan.turned(ROTATED):
        yield views.rot13(body)


def weighed(view: View, words: Found, language: str, stage: str) -> Weighed | None:
    """The heaviest stretch of a view, where enough of its words are of that language or English."""
    spoken = lexicon().with_english(language)
    if words.present_in(spoken).bit_count() < LEAST:
        return None
    return weights(stage).heaviest(words.concepts_of(spoken), view.text)


def regenerates(seen: Screening, policy: Policy) -> bool:
    """Whether an answer that is withheld for this is worth asking for once more."""
    stopped = {found.family for found in seen.findings if found.action in ("block", "escalate")}
    return bool(stopped) and stopped <= policy.regenerate


def with_finding(
    seen: Screening, policy: Policy, stage: str, rule: str, says: str, *, act: Action | None = None
) -> Screening:
    """The screening with one finding more, about the whole text; what is grey in it is settled by that."""
    known = policy.rules[rule]
    enforced = act or policy.would(known, stage)
    action = enforced if policy.enforce and rule not in policy.log_only else "allow"
    excerpt = " ".join(normalise.printable(says).split())[:EXCERPT]
    found = Seen(
        rule, known.family, action, known.severity, seen.language, "whole", 0, len(seen.text), excerpt, enforced
    )
    worse = max(action, seen.action, key=ACTIONS.index)
    return replace(seen, action=worse, findings=(found, *seen.findings), grey=False)


def _private(body: str) -> list[Span]:
    return [*secrets(body), *personal(body)]


def _everything(detect: Callable[[str], Iterable[Span]], body: str) -> list[Span]:
    """What the detector finds, and what it finds once that is gone: a number right behind an address is a number."""
    found: list[Span] = []
    for _ in range(_MOST_LOOKS):
        more = list(detect(body))
        found += more
        if not more or len(found) > _MOST_FINDINGS:
            break
        for span in more:
            body = f"{body[: span.start]}{' ' * (span.end - span.start)}{body[span.end :]}"
    return found


class _Work:
    """One text on its way through one screening."""

    def __init__(self, stage: str, text: str, policy: Policy) -> None:
        self.stage, self.text, self.policy = stage, text, policy
        self.body = normalise.bounded(text)
        self.plain = normalise.plain(self.body)
        self.language = languages.UNKNOWN
        self.spans: list[tuple[Span, str]] = []
        self.seen: list[tuple[str, str, int, int]] = []  # rule, view, start, end
        self.effort = Effort.on(self.body)

    def report(self, rule: str, view: str, start: int, end: int) -> None:
        self.seen.append((rule, view, start, end))

    def span(self, span: Span, rule: str) -> None:
        self.spans.append((span, rule))

    def measure(self) -> None:
        if len(self.text) > normalise.LIMIT:
            self.report("oversize", "plain", 0, len(self.body))

    def without_spans(self) -> str:
        """The text without keys, numbers and addresses, which belong to no language."""
        return mask(self.body, [replace(span, label=" ") for span, _ in self.spans]) if self.spans else self.body

    # --- attacks ------------------------------------------------------------------------------------------------
    def attacks(self) -> None:
        for view, scan, found in readings(self.body, self.plain):
            self.effort.left -= _LOOK * len(scan)
            hidden = view.name in _HIDDEN
            attacked = self._match(view, scan, found)
            if hidden or (attacked and view.name.partition("+")[0] in _ENCODED):
                start, end = view.locate(0, len(view.text))
                self.report("hidden-characters" if hidden else "encoded-attack", view.name, start, end)
            if self.effort.left <= 0:
                break
        if self.effort.left <= 0:  # so full of words of attacks that it was not screened to its end
            self.report("oversize", "plain", 0, len(self.body))

    def _match(self, view: View, scan: Scan, marks: Iterable[Hit] = ()) -> bool:
        """Report the rules that the view satisfies, each rule once; whether one of them is sure."""
        matched = False
        grey = self.policy.judged(self.stage)
        words = Found(scan, marks, view.source, view.text if view is self.plain else "", self.stage)
        for rule, place in matches(words, self.stage, grey=grey, effort=self.effort):
            matched = matched or not rule.grey
            self._report_once(rule, view, place)
        return matched or self._weigh(view, words, grey=grey)

    def _weigh(self, view: View, words: Found, *, grey: bool) -> bool:
        """Where no rule is sure: whether the words weigh enough together, or so much that a judge is asked."""
        found = weighed(view, words, self.language, self.stage)
        if not found:
            return False
        if found.weight >= SURE:
            self._report_once(self.policy.rules["words-together"], view, (found.start, found.end))
        elif grey and found.weight >= DOUBTFUL:
            self._report_once(self.policy.rules["words-together-grey"], view, (found.start, found.end))
        return found.weight >= SURE

    def _report_once(self, rule: Rule, view: View, place: tuple[int, int]) -> None:
        if not any(reported[0] in (rule.id, rule.backs) for reported in self.seen):
            self.report(rule.id, view.name, *view.locate(*place))

    def custom(self) -> None:
        for entry in self.policy.custom:
            if self.stage in entry.rule.stages and (found := entry.pattern.search(self.body)):
                self._custom(entry.rule, *found.span())

    def _custom(self, rule: Rule, start: int, end: int) -> None:
        if self.policy.would(rule, self.stage) == "redact":
            self.span(Span(rule.id, start, end, f"[{rule.id}]"), rule.id)
        else:
            self.report(rule.id, "plain", start, end)

    # --- outbound -----------------------------------------------------------------------------------------------
    def private_data(self, sources: Sequence[str]) -> None:
        """Secrets, and personal data that the sources do not have."""
        spans = _everything(_private, self.body)
        if not spans:
            return
        known = "\n".join(sources).casefold()
        bare = "".join(filter(str.isalnum, known))
        asked: dict[str, bool] = {}
        for span in spans:
            value = self.body[span.start : span.end]
            if span.kind == "secret":
                self.span(span, "secret-out")
                continue
            if value not in asked:
                asked[value] = len(asked) < _MOST_ASKED and same_as_in(value, span.kind, known, bare)
            if not asked[value]:
                self.span(span, f"{span.kind}-out")

    def leaks(self, system_prompt: str, canary: str, sources: Sequence[str]) -> None:
        if not system_prompt and not canary:
            return
        ways = [self.plain, *views.hidden(self.body), *views.decoded(self.body)]
        if canary and (view := leaks.canary_leaked(canary, ways)):
            self.report("canary", view.name, 0, len(self.body))
        if not system_prompt:
            return
        # A canary is known backwards; of a prompt, only the text can be turned.
        if leak := leaks.prompt_leaked(system_prompt, [*ways, views.turned(self.body)], sources):
            view, at = leak
            place = leaks.place(self.body, at) if view is self.plain else Span("", *view.locate(0, len(view.text)), "")
            self.report("prompt-leak", view.name, place.start, place.end)

    # --- the result ---------------------------------------------------------------------------------------------
    def screening(self, *, covered: bool, began: int) -> Screening:
        masks = apart(span for span, _ in self.spans)
        kept = {id(span) for span in masks}
        redacted = [span for span, rule in self.spans if self._action(rule, span.start, span.end) == "redact"]
        redacted += [
            _whole_words(self.body, Span(rule, start, end, f"[{rule}]"))
            for rule, _, start, end in self.seen
            if self._action(rule, start, end) == "redact"
        ]
        reports = [(rule, "plain", s.start, s.end) for s, rule in self.spans if id(s) in kept] + self.seen
        acting = [(self._action(rule, start, end), (rule, view, start, end)) for rule, view, start, end in reports]
        acting.sort(key=lambda report: -ACTIONS.index(report[0]))
        action: Action = acting[0][0] if acting else "allow"
        grey = any(self.policy.rules[reported[0]].grey for _, reported in acting)
        if grey and action in ("block", "escalate"):  # settled without a judge
            acting = [report for report in acting if not self.policy.rules[report[1][0]].grey]
        findings = [self._seen(acts, *reported, masks) for acts, reported in acting[:_MOST_FINDINGS]]
        return Screening(
            action=action,
            text=mask(self.body, redacted) if redacted else self.text,
            findings=tuple(findings),
            language=self.language,
            covered=covered,
            us=(perf_counter_ns() - began) // 1000,
            grey=grey and action not in ("block", "escalate"),
        )

    def _action(self, rule: str, start: int, end: int) -> Action:
        action = self.policy.action(self.policy.rules[rule], self.stage)
        return "allow" if action != "allow" and self.policy.allows(rule, self.body, start, end) else action

    def _seen(self, action: Action, name: str, view: str, start: int, end: int, masks: Sequence[Span]) -> Seen:
        rule = self.policy.rules[name]
        return Seen(
            rule=rule.id,
            family=rule.family,
            action=action,
            severity=rule.severity,
            language=self.language,
            view=view,
            start=start,
            end=end,
            excerpt=_excerpt(self.body, start, end, masks),
            would=self.policy.would(rule, self.stage),
        )


def _whole_words(text: str, span: Span) -> Span:
    """The span as far as its first and last words reach: rules know of a word how it begins."""
    start, end = span.start, span.end
    while start > 0 and text[start - 1].isalnum() and text[start : start + 1].isalnum():
        start -= 1
    while end < len(text) and text[end].isalnum() and text[end - 1 : end].isalnum():
        end += 1
    return replace(span, start=start, end=end)


def _excerpt(text: str, start: int, end: int, masks: Sequence[Span]) -> str:
    low, high = max(0, start - _AROUND), min(len(text), end + _AROUND)
    inside = [s for s in masks if s.start < high and s.end > low]
    low = min([low, *(s.start for s in inside)])
    high = min(max([high, *(s.end for s in inside)]), low + 2_000)
    clipped = [Span(s.kind, s.start - low, min(s.end, high) - low, s.label) for s in inside if s.start < high]
    return " ".join(normalise.printable(mask(text[low:high], clipped)).split())[:EXCERPT]
