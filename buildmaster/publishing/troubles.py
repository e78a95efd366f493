"""What can go wrong with an archive, and how that is told. Pure."""


def is_expected(error: Exception) -> bool:
    """Whether an error is one that its words are enough for: one that we have a class for, or the disk's. Of others,
    which are mistakes of our own, a traceback is told."""
    return type(error).__module__.startswith("buildmaster.") or isinstance(error, OSError)


def in_words(error: Exception) -> str:
    """In a line of the log."""
    return f"{type(error).__name__}: {error}"
