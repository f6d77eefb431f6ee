"""The fence around the tests themselves."""

import asyncio
import socket

import pytest
from pytest_socket import SocketConnectBlockedError


@pytest.mark.filterwarnings("ignore:A test tried to use")
def test_blocks_the_network():
    with socket.socket() as client, pytest.raises(SocketConnectBlockedError):
        client.connect(("192.0.2.1", 80))


@pytest.mark.filterwarnings("ignore:A test tried to use")
async def test_blocks_it_for_asyncio_too():
    with pytest.raises(SocketConnectBlockedError):
        await asyncio.open_connection("192.0.2.1", 80)


def test_lets_this_machine_be_reached():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), timeout=2):
        pass


def test_lets_unix_sockets_be_reached(tmp_path):
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(tmp_path / "s"))
        server.listen()
        client.connect(str(tmp_path / "s"))
