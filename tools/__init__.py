"""What the two commands, ``make demo`` and ``make check``, are made of. Not installed: it runs from a checkout."""
