"""The coverage matrix as rows, because computing it takes a minute: checked language by language, then only read."""

import hashlib
from collections.abc import Iterable, Iterator

from django.utils import timezone

from guardrails import compiling, rules
from guardrails.concepts import pack
from guardrails.coverage import Cell, column
from guardrails.coverage.disguises import DISGUISES, Probe, probes
from guardrails.models import CoverageResult


def digest() -> str:
    """Of the rules and words that are in force."""
    return hashlib.sha256(f"{rules.digest()}\n{compiling.digest()}".encode()).hexdigest()


def check(codes: Iterable[str]) -> Iterator[str]:
    """Check these languages and keep what comes out; each code once it is done."""
    for code in codes:
        CoverageResult.objects.keep(_rows(code))
        yield code


def _rows(code: str) -> list[CoverageResult]:
    found, at = column(pack(code)), timezone.now()
    whole = CoverageResult(digest=digest(), at=at, language=code, family="", gaps=list(found.gaps))
    return [whole, *(_row(cell, whole) for cell in found.cells)]


def _row(cell: Cell, whole: CoverageResult) -> CoverageResult:
    tried = probes(pack(cell.language), cell.family)
    return CoverageResult(
        digest=whole.digest,
        at=whole.at,
        language=cell.language,
        family=cell.family,
        probes=cell.probes,
        negatives=len(pack(cell.language).hard_negatives.get(cell.family, ())),
        disguises={name: sum(probe.disguises[name] for probe in tried) for name in DISGUISES},
        gaps=[*cell.gaps, *disguised(tried)],
    )


def disguised(tried: Iterable[Probe]) -> Iterator[str]:
    """A sentence for each probe that a disguise gets through."""
    for probe in tried:
        if probe.slips:
            yield f"gets through as {', '.join(probe.slips)}: {probe.text}"
