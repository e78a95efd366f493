"""The process that looks at build-dependencies, and who talks to it. A program as well.

libsolv keeps the interpreter to itself while it loads and solves, and is written in C: so it works in a process of its
own, which is ended when it takes too long, and begun anew when it has died. Each line that it reads is a question in
JSON, each line that it writes the answer.
"""

import json
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from buildd.control import ControlError
from buildd.relations import build_conflicts_of, build_depends_of
from buildmaster.available import Lack
from buildmaster.package_lists import AVAILABLE, Lists

if TYPE_CHECKING:
    from buildmaster.dependencies import Packages

LOOKS_MAX: Final = 100  # In one question; takes some tenths of a second.
_ANSWER_S: Final = 60.0
_KEPT: Final = 3  # So many lists are kept loaded, each of some 60 MB.


@dataclass(frozen=True)
class Look:
    """A build whose build-dependencies are to be looked at."""

    relations: str  # The fields of its .dsc, each on a line.
    arch_indep: bool  # Packages for all architectures are built, too.
    profiles: tuple[str, ...] = ()  # Active build profiles.


class CannotLook(Exception):
    """The process died, or did not answer in time; the message says which."""


class Looker:
    """Has build-dependencies looked at. Blocks; for one thread at a time, but for `close`."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._closed = False

    def look(self, lists: Lists, looks: Sequence[Look]) -> list[Lack | None]:
        """For each of at most LOOKS_MAX: why it cannot be built; None: it can, as far as can be told.

        :raises CannotLook: the process could not say.
        """
        question = {"folder": str(lists.folder), "architecture": lists.architecture, "state": lists.state}
        asked = json.dumps(question | {"looks": list(map(astuple, looks))})
        process = self._running()
        late = threading.Timer(_ANSWER_S, process.kill)
        late.start()
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(asked + "\n")
            process.stdin.flush()
            answered = json.loads(process.stdout.readline())
        except (OSError, ValueError) as exc:
            self._end()
            raise CannotLook("the process that looks at build-dependencies died, or took too long") from exc
        finally:
            late.cancel()
        return [None if each is None else Lack(*each) for each in answered]

    def _running(self) -> "subprocess.Popen[str]":
        if self._closed:
            raise CannotLook("the master ends")
        if self._process is None:
            command = [sys.executable, "-m", "buildmaster.looking"]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self._process

    def close(self) -> None:
        """End the process. What is asked meanwhile is not answered."""
        self._closed = True
        self._end()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()


def main() -> None:
    """Answer until there are no more questions."""
    loaded: OrderedDict[tuple[str, str], Packages] = OrderedDict()
    for line in sys.stdin:
        question = json.loads(line)
        packages = _packages(loaded, question)
        answer = [_judge(packages, *look) for look in question["looks"]]
        print(json.dumps(answer), flush=True)


def _packages(loaded: OrderedDict[tuple[str, str], "Packages"], question: Any) -> "Packages":
    """What a question is about, loaded unless that was done before; the last ones asked about are kept."""
    from buildmaster.dependencies import Packages  # noqa: PLC0415 - libsolv is not for the master itself.

    key = (question["folder"], question["state"])
    if key not in loaded:
        for old in [old for old in loaded if old[0] == key[0]]:  # As it was before something changed.
            del loaded[old]
        while len(loaded) >= _KEPT:
            loaded.popitem(last=False)
        with Path(question["folder"], AVAILABLE).open("rb") as file:
            loaded[key] = Packages(file, question["architecture"])
    loaded.move_to_end(key)
    return loaded[key]


def _judge(packages: "Packages", relations: str, arch_indep: bool, profiles: list[str]) -> tuple[str, str] | None:
    """A Lack, for JSON; None when nothing is lacking, or when the builder will say better what is wrong."""
    fields = dict(_fields(relations.splitlines()))
    what_for = (packages.architecture, frozenset(profiles), arch_indep)
    try:
        wanted = build_depends_of(lambda name: fields.get(name, ""), *what_for)
        unwanted = build_conflicts_of(lambda name: fields.get(name, ""), *what_for)
    except ControlError:
        return None
    lack = packages.lack(wanted, unwanted)
    return None if lack is None else (lack.reason, lack.missing)


def _fields(lines: Iterable[str]) -> Iterable[tuple[str, str]]:
    for line in lines:
        name, _, value = line.partition(": ")
        yield name, value


if __name__ == "__main__":
    main()
