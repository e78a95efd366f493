"""For all tests."""

import signal

# What a shell starts in the background ignores SIGINT, and so would the programs that tests start and end by it.
signal.signal(signal.SIGINT, signal.default_int_handler)
