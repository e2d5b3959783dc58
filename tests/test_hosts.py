"""Hosts of a run: by which network they talk, when a connection is given up, and the words for what is lost."""

from __future__ import annotations

import socket
import sys

import pytest

from twofold.border import explained
from twofold.cli.launch import Meeting
from twofold.errors import LostProcessError, RecipeError
from twofold.hosts import address_towards, give_up_after, interface_of, is_free_here

linux = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")


@linux
def test_the_interface_with_an_address_is_known() -> None:
    assert interface_of("127.0.0.1") == "lo"
    assert interface_of("192.0.2.1") is None


def test_an_address_of_this_machine_alone_is_none_for_others() -> None:
    assert address_towards("127.0.0.1", 29400) is None


def test_who_can_listen_is_the_first_host() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert not is_free_here("127.0.0.1", port)
    assert is_free_here("127.0.0.1", port)
    assert not is_free_here("192.0.2.1", port)


@linux
def test_open_connections_get_a_bound_on_silence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as line:
        give_up_after(20)
        assert line.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000
        assert line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert line.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 4


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[gloo/transport/tcp/pair.cc:553] Connection closed by peer [10.0.0.2]:1028", "has ended, on 10.0.0.2"),
        ("[gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:1028", "this run has ended"),
        ("[gloo/transport/tcp/pair.cc:553] Read error [10.0.0.2]:1028: Connection timed out", "host 10.0.0.2 cannot"),
        ("gloo: No route to host", "another host cannot be reached"),
    ],
)
def test_what_was_lost_is_said(text: str, what: str) -> None:
    error = explained(RuntimeError(text))
    assert isinstance(error, LostProcessError)
    assert error.exit_code == 5
    assert what in error.what


@pytest.mark.parametrize(
    ("hosts", "rendezvous", "where"),
    [(2, None, "--nodes"), (1, "a:1", "--rendezvous"), (2, "a", "--rendezvous"), (2, "a:70000", "--rendezvous")],
)
def test_options_that_do_not_fit_are_refused(hosts: int, rendezvous: str | None, where: str) -> None:
    with pytest.raises(RecipeError) as error:
        Meeting.of(hosts, rendezvous, 60)
    assert error.value.where == where


def test_one_host_meets_nobody() -> None:
    assert Meeting.of(1, None, 60) is None
    assert Meeting.of(2, "[::1]:5", 60) == Meeting("::1", 5, 2, 60)
