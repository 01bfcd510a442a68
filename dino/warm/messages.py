"""What client and server say to each other: JSON objects with their length before them, over a Unix socket."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Sequence
from typing import Any

_LENGTH = struct.Struct("!I")


def send(connection: socket.socket, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
    """Send ``message``, and with it duplicates of the open files ``fds``."""
    body = json.dumps(message).encode()
    data = _LENGTH.pack(len(body)) + body
    sent = socket.send_fds(connection, [data], list(fds)) if fds else 0
    if sent < len(data):  # not a send of nothing: that fails where the other side has answered and gone
        connection.sendall(data[sent:])


def receive(connection: socket.socket, fds: int = 0) -> tuple[dict[str, Any], list[int]]:
    """The next message, and up to ``fds`` open files that came with it.

    Raises:
        EOFError: The other side closed the connection, perhaps in the middle of a message.
    """
    files: list[int] = []
    head = b""
    if fds:  # they come with the first byte
        head, files, _, _ = socket.recv_fds(connection, _LENGTH.size, fds)
        if not head:
            raise EOFError
    head += _exactly(connection, _LENGTH.size - len(head))
    return json.loads(_exactly(connection, _LENGTH.unpack(head)[0])), files


def _exactly(connection: socket.socket, size: int) -> bytes:
    """The next ``size`` bytes and none of the message behind them, which may have arrived with them."""
    data = bytearray()
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return bytes(data)
