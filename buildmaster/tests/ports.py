"""Ports of the loopback for the servers that tests start."""

import socket
from contextlib import ExitStack


def free_port() -> int:
    """One that nobody listens at."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """So many of them, each another."""
    with ExitStack() as taken:
        sockets = [taken.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
