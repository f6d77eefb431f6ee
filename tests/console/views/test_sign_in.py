"""The door: who comes in, and how often somebody may guess."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from agents.connections import redis_sync
from console import tries
from tests.redis import empty_redis

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def anna() -> User:
    empty_redis()
    return User.objects.create_user("anna", password="correct horse")


def knock(password: str, name: str = "anna", address: str = "10.0.0.1") -> int:
    fields = {"username": name, "password": password}
    return Client(REMOTE_ADDR=address).post(reverse("sign-in"), fields).status_code


def test_ten_wrong_passwords_close_the_door_even_to_the_right_one() -> None:
    assert [knock("wrong") for _ in range(10)] == [200] * 10
    assert knock("correct horse") == 429
    assert knock("correct horse", address="10.0.0.2") == 302


def test_coming_in_forgets_the_tries_before() -> None:
    for _ in range(3):
        assert [knock("wrong") for _ in range(9)] == [200] * 9
        assert knock("correct horse") == 302


def test_an_address_that_tries_many_names_is_kept_out() -> None:
    for number in range(50):
        knock("wrong", name=f"name-{number}")
    assert knock("correct horse") == 429


def test_the_page_says_how_long_to_wait() -> None:
    for _ in range(10):
        knock("wrong")
    response = Client(REMOTE_ADDR="10.0.0.1").post(reverse("sign-in"), {"username": "anna", "password": "x"})
    assert "Too many tries. Wait 15 minutes." in response.content.decode()
    assert 0 < int(response["Retry-After"]) <= tries.WINDOW_S


def test_names_are_not_kept_in_the_clear() -> None:
    knock("wrong", name="my-password-by-mistake")
    assert not any(b"my-password" in key for key in redis_sync().scan_iter())
