"""What an apt archive says of itself: the formats of its indices. Pure: bytes in, bytes out; no files, no clock.

records.py has what an index consists of, and by which names; stanzas.py makes records of packages, release.py the
Release file; chunks.py cuts an index into pieces, so that what did not change need not be compressed again; joining.py
puts compressed pieces together.
"""
