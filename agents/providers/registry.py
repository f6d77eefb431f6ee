"""Which code speaks which dialect."""

from __future__ import annotations

from collections.abc import AsyncIterator

from agents.parts import Model
from agents.providers import local, openai
from agents.providers.base import Completion, Delta, Request


async def complete(model: Model, request: Request, timeout_s: float) -> Completion:
    """One whole answer. :raises Failed: when there is none."""
    if model.dialect == "local":
        return local.complete(request)
    return await openai.complete(model, request, timeout_s)


async def stream(model: Model, request: Request, timeout_s: float) -> AsyncIterator[Delta]:
    """The answer in pieces. :raises Failed: before or between pieces."""
    if model.dialect == "local":
        for delta in local.stream(request):
            yield delta
        return
    async for delta in openai.stream(model, request, timeout_s):
        yield delta
