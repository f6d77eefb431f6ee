"""Models behind one interface: the built-in extractive model and every OpenAI-compatible server."""

from agents.providers.base import Completion, Delta, Failed, Request, Usage
from agents.providers.registry import complete, stream

__all__ = ["Completion", "Delta", "Failed", "Request", "Usage", "complete", "stream"]
