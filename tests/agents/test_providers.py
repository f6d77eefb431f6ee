"""Where models may be called: never at a private address that nobody allowed, whatever name leads there."""

from __future__ import annotations

from typing import Any

import pytest

from agents.parts import Model, routes
from agents.providers import Failed, Request, complete, http, stream
from tests.upstream import Fails, Says, Upstream

REQUEST = Request({"messages": [{"role": "user", "content": "Hello"}]})


@pytest.fixture
def upstream(provider: Upstream) -> Upstream:
    provider.forget()
    return provider


def model(url: str) -> Model:
    price = {"input": "1", "output": "1"}
    return routes({"models": {"m": {"base_url": url, "price": price}}}).models["m"]


async def asked(url: str) -> Failed:
    try:
        with pytest.raises(Failed) as told:
            await complete(model(url), REQUEST, 2.0)
    finally:
        await http.close()
    return told.value


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.1.2.3", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1",
        "[::1]", "[fd00::1]", "[fe80::1]", "[::ffff:127.0.0.1]", "[::ffff:10.0.0.1]", "localhost", "2130706433",
        "0x7f000001", "0177.0.0.1", "127.1",
    ],
)  # fmt: skip
async def test_a_private_address_is_not_called(settings: Any, upstream: Upstream, host: str) -> None:
    settings.PROVIDER_ALLOWED_HOSTS = []
    port = upstream.url.split(":")[2].split("/")[0]
    failure = await asked(f"http://{host}:{port}/v1")
    assert not failure.sent
    assert upstream.asked == []


async def test_an_allowed_host_is_called(settings: Any, upstream: Upstream) -> None:
    settings.PROVIDER_ALLOWED_HOSTS = ["127.0.0.1"]
    try:
        assert (await complete(model(upstream.url), REQUEST, 5.0)).text == "Hello from upstream."
    finally:
        await http.close()


async def test_a_redirect_is_not_followed(settings: Any, upstream: Upstream) -> None:
    settings.PROVIDER_ALLOWED_HOSTS = ["127.0.0.1"]
    upstream.script("m", Fails(307, headers={"location": upstream.url + "/chat/completions"}))
    failure = await asked(upstream.url)
    assert failure.status == 307
    assert len(upstream.asked) == 1


async def test_nobody_at_home_is_told_as_not_sent(settings: Any) -> None:
    settings.PROVIDER_ALLOWED_HOSTS = ["127.0.0.1"]
    failure = await asked("http://127.0.0.1:1/v1")
    assert (failure.kind, failure.sent) == ("connect", False)


@pytest.mark.parametrize("told", [(-1, 5, 0), (10**12, 5, 0), (5, 10**30, 0)])
async def test_usage_that_cannot_be_is_not_believed(settings: Any, upstream: Upstream, told: Any) -> None:
    settings.PROVIDER_ALLOWED_HOSTS = ["127.0.0.1"]
    upstream.script("m", Says("Hello.", usage=told))
    try:
        usage = (await complete(model(upstream.url), REQUEST, 5.0)).usage
    finally:
        await http.close()
    assert not usage.counted
    assert 0 < usage.input_tokens < 100


async def test_a_flood_is_cut_off(settings: Any, upstream: Upstream) -> None:
    settings.PROVIDER_ALLOWED_HOSTS = ["127.0.0.1"]
    upstream.script("m", Says("x" * 9_000_000))
    assert (await asked(upstream.url)).kind == "garbage"


async def test_a_streams_pieces_arrive_whole_whatever_way_they_were_cut(settings: Any, upstream: Upstream) -> None:
    settings.PROVIDER_ALLOWED_HOSTS = ["127.0.0.1"]
    upstream.script("m", Says("żółta łódź 🙂 płynie", piece=1))
    try:
        said = "".join([delta.text async for delta in stream(model(upstream.url), REQUEST, 5.0)])
    finally:
        await http.close()
    assert said == "żółta łódź 🙂 płynie"
