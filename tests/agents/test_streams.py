"""The look-back of streams: whatever way an answer is cut, what leaves is what a whole screening lets leave."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import wire
from agents.asks import Blocked
from agents.providers import Delta, Usage
from agents.streams import LOOK_BACK, LookBack, LookBacks
from guardrails import screen
from guardrails.screen import DEFAULT_POLICY, Screening, compile_policy

POLICY = compile_policy(DEFAULT_POLICY)
CANARY = "5d41402abc4b2a76b9719d911017c592"
MAIL = "annabella.kowalska-wisniewska@customer-example.com"
WORDS = st.sampled_from(["parcel ", "label ", "within thirty days ", "the account ", ". ", "\n\n", "żółć ", "🙂 "])
PROSE = st.lists(WORDS, max_size=120).map("".join)


def outbound(text: str) -> Screening:
    return screen.outbound(text, POLICY, canary=CANARY)


def chunk(text: str, index: int = 0, finish: str = "") -> Delta:
    raw: dict[str, Any] = {"id": "1", "choices": [{"index": index, "delta": {"content": text}, "finish_reason": None}]}
    return Delta(raw, text, finish=finish, choice=index)


def cut(text: str, at: list[int]) -> list[str]:
    places = sorted({0, len(text), *(place % (len(text) + 1) for place in at)})
    return [text[start:end] for start, end in pairwise(places)]


def through(pieces: list[str]) -> tuple[str, bool]:
    """What left, and whether the stream was stopped."""
    buffer, left = LookBack(wire.of("chat"), outbound), ""
    try:
        for piece in pieces:
            left += "".join(delta.text for delta in buffer.push(chunk(piece)))
        left += "".join(delta.text for delta in buffer.flush())
    except Blocked:
        return left, True
    return left, False


CUTS = st.lists(st.integers(0, 5_000), max_size=60)


@given(PROSE, CUTS)
def test_a_clean_answer_leaves_unchanged(text: str, at: list[int]) -> None:
    assert through(cut(text, at)) == (text, False)


@given(st.lists(PROSE, min_size=2, max_size=5), CUTS)
def test_no_address_leaves_however_the_answer_is_cut(parts: list[str], at: list[int]) -> None:
    text = f" {MAIL} ".join(parts)
    left, stopped = through(cut(text, at))
    assert not stopped
    assert "kowalska" not in left
    assert "customer-example" not in left


@given(PROSE, PROSE, CUTS)
def test_no_part_of_the_marker_leaves_however_the_answer_is_cut(before: str, after: str, at: list[int]) -> None:
    left, stopped = through(cut(f"{before} {CANARY} {after}", at))
    assert stopped
    assert before.startswith(left) or f"{before} ".startswith(left)


def test_a_redaction_does_not_let_go_of_what_follows_it() -> None:
    """An address becomes a short word, so that little is held: half a card number is held all the same."""
    start = f"{'It is long. ' * 18}{MAIL} or 4111 1111 "
    assert len(outbound(start).text) < LOOK_BACK < len(start)
    assert through([start, "1111 1111 is the card."]) == (
        f"{'It is long. ' * 18}[e-mail] or [card] is the card.",
        False,
    )


def test_pieces_without_text_pass_in_order_and_the_end_comes_last() -> None:
    buffer = LookBacks(wire.of("chat"), lambda _, text: outbound(text))
    role = Delta({"choices": [{"index": 0, "delta": {"role": "assistant"}}]})
    end = Delta({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}, finish="stop")
    usage = Delta({"choices": [], "usage": {}}, usage=Usage(1, 1))
    seen = [delta for given in (role, chunk("Hello."), end, usage) for delta in buffer.push(given)]
    assert seen[0] is role
    assert [delta.text for delta in seen] == ["", "Hello.", "", ""]
    assert seen[-2:] == [end, usage]


def test_text_and_end_in_one_piece_are_told_apart() -> None:
    buffer = LookBack(wire.of("chat"), outbound)
    seen = list(buffer.push(chunk("All of it.", finish="stop")))
    assert [(delta.text, delta.finish) for delta in seen] == [("All of it.", ""), ("", "stop")]
    assert seen[0].raw["choices"][0]["finish_reason"] is None


@pytest.mark.parametrize("index", [0, 1, 5])
def test_choices_do_not_run_into_each_other(index: int) -> None:
    """Half an address in one choice and half in another is no address, and each keeps its own number."""
    buffer = LookBacks(wire.of("chat"), lambda _, text: outbound(text))
    left = [
        delta
        for one, other in zip("Hello there.", "Good day all", strict=True)
        for delta in [*buffer.push(chunk(one, index)), *buffer.push(chunk(other, index + 1))]
    ]
    left += buffer.flush()
    said = {delta.raw["choices"][0]["index"]: delta.text for delta in left}
    assert said == {index: "Hello there.", index + 1: "Good day all"}
