"""What the master needs of a reactor, as one interface. It is handed in; only service.py knows the global one."""

from twisted.internet.interfaces import IReactorProcess, IReactorTCP, IReactorThreads, IReactorTime


class IMasterReactor(IReactorTime, IReactorTCP, IReactorThreads, IReactorProcess):
    """Time, TCP, threads and child processes."""
