"""An agent of OpenAI's agent framework that knows nothing of Pilothouse but its base URL: a JSON line for each read.

It runs in an environment of its own: the framework's package is called `agents`, as ours is.
"""

from __future__ import annotations

import asyncio
import json
import sys

from openai import AsyncOpenAI

from agents import (  # type: ignore[attr-defined]
    Agent,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)

asked_for: list[str] = []


@function_tool
def weather(city: str) -> str:
    """The weather of a city."""
    asked_for.append(city)
    return "8 degrees, rain"


async def run(base_url: str, key: str, kind: str, model: str, stream: bool) -> dict[str, object]:
    asked_for.clear()
    client = AsyncOpenAI(base_url=base_url, api_key=key, max_retries=0)
    wire = OpenAIResponsesModel if kind == "responses" else OpenAIChatCompletionsModel
    agent = Agent(
        name="Guide", instructions="Be brief.", tools=[weather], model=wire(model=model, openai_client=client)
    )
    if not stream:
        done = await Runner.run(agent, "How is the weather in Łódź?")
        return {"said": done.final_output, "asked_for": asked_for}
    events = Runner.run_streamed(agent, "How is the weather in Łódź?")
    pieces = [
        e.data.delta
        async for e in events.stream_events()
        if getattr(getattr(e, "data", None), "type", "") == "response.output_text.delta"
    ]
    return {"said": events.final_output, "pieces": "".join(pieces), "asked_for": asked_for}


if __name__ == "__main__":
    set_tracing_disabled(True)
    for line in sys.stdin:
        print(json.dumps(asyncio.run(run(**json.loads(line)))), flush=True)
