"""Questions and answers are kept where a channel wants it, for as long as it wants it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from django.db import IntegrityError

from agents import calls, partitions
from agents.models import Agent, Call, CallBody, Channel
from tests import world

pytestmark = pytest.mark.django_db
NOW = datetime.now(UTC)


@pytest.fixture(autouse=True)
def channels() -> None:
    agent = Agent.objects.create(slug="acme", name="Acme")
    Channel.objects.create(agent=agent, slug="web", name="Web")
    Channel.objects.create(agent=agent, slug="mail", name="Mail", keep_bodies_days=7)


entry = partial(world.entry, at=NOW, channel="acme/mail", cost_nano=1, request="Where is it?", response="Here.\x00")


def test_a_body_is_kept_once_and_only_where_the_channel_wants_it() -> None:
    one = entry()
    calls.write([one, one, entry(channel="acme/web"), entry(request="", response="")])
    calls.write([one])
    body = CallBody.objects.get()
    assert (str(body.call_id), body.request, body.response) == (one["call_id"], "Where is it?", "Here.")
    assert Call.objects.count() == 3


def test_the_real_answer_of_an_attempt_that_had_expired_is_kept() -> None:
    one = entry()
    calls.write([{**one, "status": "expired", "request": "", "response": "", "price": "estimated"}])
    calls.write([{**one, "late": "1"}])
    assert CallBody.objects.get().response == "Here."


def test_bodies_go_day_by_day_while_their_calls_stay() -> None:
    calls.write([entry(), entry(at=(NOW - timedelta(days=1)).isoformat())])
    day = (NOW + timedelta(days=7)).date()
    first, second = (f"agents_callbody_{one:%Y%m%d}" for one in (day - timedelta(days=1), day))
    early = partitions.drop_old(day - timedelta(days=1))
    assert first not in early
    assert second not in early
    then = partitions.drop_old(day)
    assert first in then
    assert second not in then
    assert second in partitions.drop_old(day + timedelta(days=1))
    assert CallBody.objects.count() == 0
    assert Call.objects.count() == 2


def test_a_body_of_long_ago_is_dropped_at_the_next_look() -> None:
    calls.write([entry(at=(NOW - timedelta(days=30)).isoformat())])
    partitions.drop_old()
    assert CallBody.objects.count() == 0


def test_nobody_keeps_bodies_for_ever() -> None:
    with pytest.raises(IntegrityError):
        Channel.objects.update(keep_bodies_days=366)
