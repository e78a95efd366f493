"""What the master needs of a reactor, as one interface. It is handed in; only service.py knows the global one."""

from twisted.internet.interfaces import IReactorTCP, IReactorThreads, IReactorTime


class IMasterReactor(IReactorTime, IReactorTCP, IReactorThreads):
    """Time, TCP and threads."""
