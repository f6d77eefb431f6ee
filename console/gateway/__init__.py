"""The OpenAI-compatible door: a plain ASGI app beside Django, so that a call costs a call and not a page."""
