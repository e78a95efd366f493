"""Whatever a builder answers is a value or one kind of error; by fixed seeds, so that a failure can be had again."""

import math
import random
import xmlrpc.client
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from buildd.protocol import LOG_TAIL_BYTES, BuilderStatus, BuildStatus, FileName, Sha1
from buildmaster.builder_answers import (
    FILES_LIMIT,
    TEXT_LIMIT,
    WORD_LIMIT,
    BadAnswer,
    BuilderFault,
    Status,
    parse_answer,
    parse_status,
)
from buildmaster.lifecycle import BuildState
from buildmaster.pacing import Progress
from buildmaster.tests.factories import make_build, make_busy
from buildmaster.tests.farm_case import FarmCase

SHA1 = "ab" * 20
HONEST: tuple[dict[str, Any], ...] = (
    {"builder_status": "BuilderStatus.IDLE", "builder_version": "13"},
    {
        "builder_status": "BuilderStatus.BUILDING", "builder_version": "13", "build_id": "PACKAGEBUILD-1",
        "logtail": xmlrpc.client.Binary(b"a log\n"), "stage": "build",
    },
    {"builder_status": "BuilderStatus.ABORTING", "builder_version": "13", "build_id": "PACKAGEBUILD-1"},
    {
        "builder_status": "BuilderStatus.WAITING", "build_id": "PACKAGEBUILD-1", "build_status": "BuildStatus.OK",
        "filemap": {"a_1_amd64.deb": SHA1, "a_1_amd64.changes": SHA1}, "dependencies": "", "reason": "",
    },
    {
        "builder_status": "BuilderStatus.WAITING", "build_id": "PACKAGEBUILD-1", "build_status": "BuildStatus.DEPFAIL",
        "filemap": {}, "dependencies": "b (>= 1)", "reason": "no b", "cause": "dependency", "error": "E: no b",
    },
)  # fmt: skip
TEXTS = (
    "", " ", "\n", "a\nb", "\x1b[2J", "\u202e", "\ufeff", "\U0010ffff", "é" * 200, "x" * 300, "x" * 100_000, "../../x",
    "/etc/passwd", "..", ".hidden", "a/b", "a\\b", "-rf", "nan", "NaN", "inf", "1e999", "None", "BuilderStatus.WAITING",
    "BuildStatus.OK", "buildstatus.ok", "PACKAGEBUILD-1\n", "PACKAGEBUILD-0x1", SHA1.upper(), SHA1 + "\n", "0" * 39,
    "\u0660" * 40, "%s%n{0}{build}", "'; DROP TABLE build; --",
)  # fmt: skip
OTHERS: tuple[Any, ...] = (
    None, True, False, 0, -1, 2**31, -(2**63), 10**400, 0.0, -0.0, math.inf, -math.inf, math.nan, [], {}, [[]],
    {"": ""}, xmlrpc.client.Binary(b"\xff\x00\n"), xmlrpc.client.Binary(b"x" * 100_000),
    xmlrpc.client.DateTime("nonsense"),
)  # fmt: skip


def nasty(chance: random.Random, depth: int = 3) -> Any:
    """Something that is to be found nowhere in an honest answer, or in another place."""
    match chance.randrange(6):
        case 0 if depth:
            return [nasty(chance, depth - 1) for _ in range(chance.randrange(4))]
        case 1 if depth:
            return {chance.choice(TEXTS): nasty(chance, depth - 1) for _ in range(chance.randrange(4))}
        case 2 | 3:
            return chance.choice(OTHERS)
        case _:
            return chance.choice(TEXTS)


def spoilt(chance: random.Random) -> Any:
    """An answer of which something is wrong; now and then nothing is."""
    answer = dict(chance.choice(HONEST))
    for _ in range(chance.randrange(4)):
        match chance.randrange(4):
            case 0:
                answer.pop(chance.choice(list(answer) or [""]), None)
            case 1 if isinstance(answer.get("filemap"), dict):
                answer["filemap"] = answer["filemap"] | {nasty_key(chance): nasty(chance)}
            case _:
                answer[chance.choice([*HONEST[1], *HONEST[3], *HONEST[4]])] = nasty(chance)
    return nasty(chance) if chance.random() < 0.05 else answer


def nasty_key(chance: random.Random) -> Any:
    """What a struct may have as a key, since what parses XML-RPC does not look."""
    return chance.choice([*TEXTS, 5, 2.5, None, True])


def check(status: Status) -> None:
    """What is promised of a status, whoever sent it: it can be shown, stored, and used as the name of a file."""
    assert len(status.version) <= WORD_LIMIT and len(status.stage) <= WORD_LIMIT
    assert len(status.log_tail) <= LOG_TAIL_BYTES
    for text in (status.version, status.stage, status.dependencies, status.reason, *status.error.split("\n")):
        assert text.isprintable() and len(text) <= TEXT_LIMIT
    if status.builder_status is not BuilderStatus.IDLE:
        assert status.build_id and status.build_id.isprintable() and "/" not in status.build_id
    assert (status.build_status is None) == (status.builder_status is not BuilderStatus.WAITING)
    check_files(status.filemap)


def check_files(filemap: Mapping[FileName, Sha1] | None) -> None:
    for name, sha1 in (filemap or {}).items():
        assert name.isprintable() and not name.startswith(".") and not {"/", "\\"} & set(name)
        assert len(name.encode()) <= 255 and len(sha1) == 40 and set(sha1) <= set("0123456789abcdef")
    assert len(filemap or {}) <= FILES_LIMIT


@pytest.mark.parametrize("seed", range(8))
def test_a_struct(seed: int) -> None:
    """Of whatever types and values a status is made, it is parsed, or refused by one error with a bearable message."""
    chance = random.Random(seed)
    parsed = refused = 0
    for _ in range(500):
        try:
            check(parse_status(spoilt(chance)))
            parsed += 1
        except BadAnswer as error:
            assert len(str(error)) < 10_000 and str(error).isprintable()
            refused += 1
    assert parsed > 50 and refused > 50


@pytest.mark.parametrize("seed", range(8))
def test_a_document(seed: int) -> None:
    """Nor does it matter how the XML is broken."""
    chance = random.Random(seed)
    told: set[type] = set()
    for body in documents(chance):
        try:
            value = parse_answer(body)
            told.add(type(value))
            check(parse_status(value))
        except (BadAnswer, BuilderFault) as error:
            assert len(str(error)) < 10_000 and str(error).isprintable()
            told.add(type(error))
    assert BadAnswer in told and len(told) > 1


PIECES = (
    b"<value>", b"</value>", b"<struct>", b"</member>", b"<name>", b"<array><data>", b"</data></array>", b"<nil/>",
    b"<int>9</int>", b"<i8>99999999999999999999</i8>", b"<int>" + b"9" * 5000 + b"</int>", b"<double>nan</double>",
    b"<double>1e9999</double>", b"<bigdecimal>x</bigdecimal>", b"<bigdecimal>1e999999999</bigdecimal>",
    b"<dateTime.iso8601>x</dateTime.iso8601>", b"<base64>!</base64>", b"<boolean>2</boolean>", b"<fault>", b"</params>",
    b"<ex:nil xmlns:ex='x'/>", b"<!-- -->", b"<![CDATA[<x>]]>", b"<?x y?>", b"&#0;", b"&#xD800;", b"&lt;", b"&a;",
    b"\xff\xfe", b"\x00", b"\xed\xa0\x80", b"]]>", b"<methodName>status</methodName>", b"\xc3",
    b"<!DOCTYPE x SYSTEM 'http://127.0.0.1:1/'>", b"<?xml version='1.0' encoding='utf-7'?>",
)  # fmt: skip


def documents(chance: random.Random) -> Iterator[bytes]:
    for _ in range(300):
        value = (dict(chance.choice(HONEST)),)
        body = bytearray(xmlrpc.client.dumps(value, methodresponse=True, allow_none=True).encode())
        for _ in range(chance.randrange(4)):
            where = chance.randrange(len(body) + 1)
            match chance.randrange(4):
                case 0:
                    del body[where : where + chance.randrange(1, 40)]
                case 1:
                    body[where:where] = chance.choice(PIECES)
                case 2:
                    body[where:where] = body[chance.randrange(len(body) + 1) :]
                case _:
                    body[where : where + 1] = chance.randbytes(1)
        yield bytes(body)


class TestAScan(FarmCase):
    """The same said to the real scanner, of which each build must come back."""

    async def test_whatever_a_builder_says(self) -> None:
        """Each scan is over, well or not, and what the database has stays in order."""
        chance = random.Random(4)
        build_id = make_build(self.farm)
        make_busy(self.farm, "x86", build_id)
        scanner = self.scanner()
        ended: set[Progress] = set()
        for _ in range(60):
            self.now += 100.0
            self.fake.extra_status = {key: value for key, value in wire(spoilt(chance)).items() if key}
            ended.add(await self.scan(scanner))
            vitals = self.vitals()
            if vitals.job is None or not vitals.enabled:
                assert self.state(build_id) not in (BuildState.BUILDING, BuildState.GATHERING)
                break
        assert self.state(build_id) is BuildState.NEEDS_BUILD
        assert Progress.FAILED in ended

    async def test_too_long_for_a_column(self) -> None:
        """A version or a stage of 100,000 characters is cut; PostgreSQL would not have it."""
        self.fake.duration_s = None
        self.fake.extra_status = {"builder_version": "v" * 100_000, "stage": "s" * 100_000}
        build_id = make_build(self.farm)
        scanner = self.scanner()
        await self.scan_until(build_id, BuildState.BUILDING, scanner=scanner)
        await self.scan(scanner)
        assert self.vitals().version == "v" * WORD_LIMIT and self.queue_row(build_id).stage == "s" * WORD_LIMIT

    async def test_many_words(self) -> None:
        """Reasons and what is missing may be long, and are kept as far as they can be shown."""
        self.fake.outcome = BuildStatus.DEPFAIL
        self.fake.extra_status = {"reason": "r\n" * 50_000, "error": "e" * 100_000}
        self.fake.dependencies = "d" * 100_000
        build_id = make_build(self.farm)
        await self.scan_until(build_id, BuildState.DEP_WAIT)
        row = self.build(build_id)
        assert len(row.reason) <= TEXT_LIMIT and len(row.dependencies) <= TEXT_LIMIT and "\n" not in row.reason


def wire(value: Any) -> dict[str, Any]:
    """What of an answer can be sent at all."""
    try:
        xmlrpc.client.dumps((value,), methodresponse=True, allow_none=True)
    except (OverflowError, TypeError):
        return {}
    return value if isinstance(value, dict) else {"builder_status": value}
