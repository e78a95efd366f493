# Two commands: make demo, make check.

PACKAGE = hello
SUITE = bookworm
export PACKAGE SUITE

help:
	@echo 'make demo                     build the package "hello" of Debian on a farm of one machine'
	@echo 'make demo PACKAGE="tree jq"   build these instead; PACKAGE=. builds debfarm itself'
	@echo 'make demo SUITE=trixie        ... for another suite (default: bookworm)'
	@echo 'make check                    linters, types, all tests, real builds included'
	@echo 'make clean                    remove what the above made, here and in the demo'"'"'s own directory'

demo:
	@tools/bootstrap demo
	@.venv/bin/python -m tools.demo --suite "$$SUITE" -- $$PACKAGE

check:
	@tools/bootstrap check
	@tools/check

clean:
	@tools/clean

.PHONY: help demo check clean
