"""What was found in one view, as rules ask for it."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import islice
from math import inf

from guardrails.compiling import LOAN
from guardrails.lexicon import ANY_LANGUAGE, Hit, Scan, bit, mask
from guardrails.marks import punctuation
from guardrails.normalise import fold_lengths
from guardrails.weighing import SURE_ABOUT, SURE_ALONE, SURE_SENTENCE, Words, weights

_NATIVE, _NEAR = 5, 100
_STOP, _MOST_STOPS = re.compile(r"[.!?…؟]+(?=\s|$)|[。！？।\n]"), 2_000
_TOLD = 200  # characters before and after in which the same sentence may say that it tells of something
_ADDRESS = frozenset({"YOURS"})
_WEIGHED, _WEIGHED_EACH = 50, 100  # places, or one for so many letters, so that no text can keep this busy
_BARELY, _IN_SENTENCE, _ABOUT = 6, 60, 80  # letters before and behind a place that are weighed with it


class Found:
    """The hits of one view, by the concepts of a term, in the order of their places."""

    def __init__(
        self, scan: Scan, marks: Iterable[Hit], source: str = "", plain: str = "", stage: str = "inbound"
    ) -> None:
        """`source`: what was folded. `plain`: the folded text, where it is the message's own: only that is weighed, as
        on that stage."""
        self._plain, self._stage = plain, stage
        self.english = scan.english
        self._source = source
        self._stops: list[int] | None = None
        self._scan, self._marks = scan, list(marks)
        self.present = scan.present | mask(hit.concept for hit in self._marks)
        self._natives: tuple[list[int], list[list[int]]] | None = None
        self._terms: dict[frozenset[str], tuple[list[Hit], list[int], int]] = {}
        self._everything: tuple[list[Words], int] | None = None
        self._weighed: dict[tuple[int, int, str], float] = {}

    def of(self, term: frozenset[str]) -> tuple[list[Hit], list[int], int]:
        """The term's hits, their starts, and the length of the longest."""
        if (kept := self._terms.get(term)) is None:
            hits = self._scan.hits(mask(term))
            if marks := [mark for mark in self._marks if mark.concept in term]:
                hits = sorted([*hits, *marks])
            longest = max([end - start for start, end, _, _ in hits], default=0)
            kept = self._terms[term] = (hits, [start for start, _, _, _ in hits], longest)
        return kept

    def near(self, term: frozenset[str], start: int, end: int) -> list[Hit]:
        """The term's hits that reach into the span."""
        hits, starts, longest = self.of(term)
        low, high = bisect_left(starts, start - longest), bisect_left(starts, end)
        return [hit for hit in hits[low:high] if hit.end > start]

    def leads_to(self, hit: Hit, start: int) -> bool:
        """Whether the word stands before that place, in the same sentence of the text as it was written."""
        stops = self._ends_of_sentences()
        at = bisect_left(stops, hit.end - 1)
        return hit.start < start and not (at < len(stops) and stops[at] <= start + 1)

    def tells(self, of: frozenset[str], hit: Hit) -> bool:
        """Whether the word's sentence tells of something in its language, and addresses nobody in it."""
        low, high = self._sentences(hit.start, hit.end, _TOLD)
        spoken = hit.languages & ~LOAN
        told = any(word.languages & spoken for word in self.near(of, low, high))
        return told and not any(word.languages & spoken for word in self.near(_ADDRESS, low, high))

    def _sentences(self, start: int, end: int, most: int) -> tuple[int, int]:
        """How far the sentences of a span reach before and behind it, without the edges that they share with others."""
        stops = self._ends_of_sentences()
        first, last = bisect_right(stops, start + 1), bisect_left(stops, end - 1)
        low = stops[first - 1] + 1 if first else 0
        high = stops[last] if last < len(stops) else end + most
        return max(low, start - most), min(high, end + most)

    def _ends_of_sentences(self) -> list[int]:
        if self._stops is None:
            places = [stop.end() for stop in islice(_STOP.finditer(self._source), _MOST_STOPS)]
            self._stops = sorted(fold_lengths(self._source, places).values())
        return self._stops

    def is_spoken(self, shared: int, start: int, end: int) -> bool:
        """Whether one of the languages is spoken there: English words alone are English, or need a native word near."""
        if not shared & LOAN or shared & self.english:
            return True
        starts, languages = self._native()
        low, high = bisect_right(starts, start - _NEAR), bisect_left(starts, end + _NEAR)
        if low >= high:
            return False
        level = (high - low).bit_length() - 1
        return bool((languages[level][low] | languages[level][high - (1 << level)]) & shared & ~LOAN)

    def _native(self) -> tuple[list[int], list[list[int]]]:
        """Where the words of no other language start, and the languages of 1, 2, 4, 8 … such words from each on."""
        if self._natives is None:
            hits = self._scan.natives(_NATIVE)
            levels = [[languages for _, languages in hits]]
            while len(last := levels[-1]) > (step := 1 << len(levels) - 1):
                levels.append([one | other for one, other in zip(last, last[step:], strict=False)])
            self._natives = [start for start, _ in hits], levels
        return self._natives

    def present_in(self, spoken: int) -> int:
        """The mask of the concepts that there are words of those languages or marks for."""
        return self._scan.present_in(spoken) | mask(mark.concept for mark in self._marks)

    def _everything_in(self, start: int, end: int) -> list[Words]:
        """The concepts of any language, marks and signs that reach into the span."""
        if self._everything is None:
            words = sorted(self.concepts_of(ANY_LANGUAGE))
            self._everything = words, max([end - start for start, end, _ in words], default=0)
        words, longest = self._everything
        low, high = bisect_left(words, (start - longest,)), bisect_left(words, (end,))
        return [word for word in words[low:high] if word[1] > start]

    def refutes(self, start: int, end: int) -> bool:
        """Whether what is there weighs too little to be an attack, alone, with its sentence and with all about it,
        whatever a rule says: who complains of a letter quotes its orders.

        Where words are disguised, which has no excuse, nothing does; nor once so many places were weighed.
        """
        if not self._plain:
            return False
        sentence = self._weight_of(*self._sentences(start, end, _IN_SENTENCE), self._stage)
        barely = self._sentences(start, end, _BARELY)
        # What is blunt enough for a message is so in a document, which has other attacks as a rule.
        if sentence >= SURE_ALONE or any(self._weight_of(*barely, of) >= SURE_ALONE for of in {self._stage, "inbound"}):
            return False
        return sentence < SURE_SENTENCE or self._weight_of(start - _ABOUT, end + _ABOUT, self._stage) < SURE_ABOUT

    def _weight_of(self, low: int, high: int, stage: str) -> float:
        place = max(low, 0), min(high, len(self._plain)), stage
        if (kept := self._weighed.get(place)) is None:
            if len(self._weighed) >= max(_WEIGHED, len(self._plain) // _WEIGHED_EACH):
                return inf
            kept = self._weighed[place] = self._weigh(*place)
        return kept

    def _weigh(self, low: int, high: int, stage: str) -> float:
        inside = [(start - low, end - low, concepts) for start, end, concepts in self._everything_in(low, high)]
        return weights(stage).of_place(inside, self._plain[low:high])

    def concepts_of(self, spoken: int) -> Iterator[Words]:
        """Where each word of those languages, each mark and sign starts and ends, and the mask of its concepts."""
        yield from self._scan.concepts_of(spoken)
        for mark in self._marks:
            yield mark.start, mark.end, bit(mark.concept)
        yield from punctuation(self._source)
