"""Messages between a warm start's two sides: one at a time, however the socket cuts or joins them."""

from __future__ import annotations

import os
import socket

import pytest

from dino.warm.messages import receive, send


@pytest.fixture
def ends():
    here, there = socket.socketpair()
    with here, there:
        yield here, there


def test_messages_that_arrive_together_are_read_one_by_one(ends):
    here, there = ends
    for message in ({"pid": 7}, {"status": 0}, {"status": 1}):
        send(here, message)
    assert [receive(there) for _ in range(3)] == [({"pid": 7}, []), ({"status": 0}, []), ({"status": 1}, [])]


def test_open_files_come_with_their_own_message(ends):
    here, there = ends
    reader, writer = os.pipe()
    send(here, {"arguments": ["x" * 70_000]}, fds=[reader])
    send(here, {"status": 0})
    os.close(reader)
    message, (file,) = receive(there, fds=3)
    assert len(message["arguments"][0]) == 70_000
    os.write(writer, b"through")
    os.close(writer)
    with open(file, "rb") as received:
        assert received.read() == b"through"
    assert receive(there) == ({"status": 0}, [])


@pytest.mark.parametrize("part", [b"", b"\x00\x00", b"\x00\x00\x00\x09{"])
@pytest.mark.parametrize("fds", [0, 3])
def test_a_side_that_closes_in_the_middle_is_said(ends, part, fds):
    here, there = ends
    here.sendall(part)
    here.close()
    with pytest.raises(EOFError):
        receive(there, fds=fds)
