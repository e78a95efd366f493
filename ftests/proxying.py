"""A program that serves the daemon's proxy on a free port of the loopback, for the archives that its arguments name.

It prints the port, goes on until standard input ends, and then prints the seconds of processor time that it took.
"""

import socket
import sys
import time
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.internet.threads import deferToThread

from buildd.proxy import ArchiveProxy
from buildd.reach import Reach


async def main(reactor: Any, *urls: str) -> None:
    """Serve."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=100)
    print(listening.getsockname()[1], flush=True)
    serving = ArchiveProxy(reactor).serve(listening, Reach.of(urls), lambda line: print(line, file=sys.stderr))
    before = time.process_time()
    await deferToThread(sys.stdin.read)
    print(time.process_time() - before)
    serving.stop()


if __name__ == "__main__":
    react(lambda *arguments: Deferred.fromCoroutine(main(*arguments)), sys.argv[1:])
