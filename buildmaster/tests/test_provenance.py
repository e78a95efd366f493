"""Statements of provenance and their envelopes: made, read, and refused."""

import base64
import contextlib
import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildd.control import Installed
from buildmaster import envelopes, provenance
from buildmaster.envelopes import BadKey, BadSignature
from buildmaster.provenance import Digested, Made, Malformed

FARM = provenance.farm_uri("ab" * 32)
MADE = Made(
    build_id=3,
    source="hello",
    version="2.10-3",
    dsc="hello_2.10-3.dsc",
    distribution="debian",
    archive="mine",
    series="bookworm",
    pocket="RELEASE",
    component="main",
    architecture="amd64",
    arch_indep=True,
    wishes={"profiles": ("nocheck",)},
    sources=[Digested("hello_2.10.orig.tar.gz", "1" * 64), Digested("hello_2.10-3.dsc", "2" * 64)],
    chroot="3" * 64,
    installed=[Installed("g++", "4:12.2.0-3"), Installed("libc6", "2.36-9+deb12u14", "i386")],
    results=[Digested("hello_2.10-3_amd64.deb", "4" * 64)],
    log=Digested("buildlog.txt.gz", "5" * 64),
    builder="bob",
    builder_version="0.1.0",
    started_at="2026-11-22T12:00:00Z",
    finished_at="2026-11-22T12:01:00Z",
)
SECRET, OTHER = envelopes.new_secret(), envelopes.new_secret()
STATEMENT = provenance.statement(MADE, FARM, "0.1.0")
ENVELOPE = envelopes.sign(STATEMENT, SECRET)
KEY = envelopes.public_key(SECRET)


def test_a_statement_is_slsa_provenance() -> None:
    """What in-toto and SLSA v1 require is there, and everything that went in with its digest or version."""
    document = json.loads(STATEMENT)
    assert document["_type"] == "https://in-toto.io/Statement/v1"
    assert document["predicateType"] == "https://slsa.dev/provenance/v1"
    assert document["subject"] == [{"name": "hello_2.10-3_amd64.deb", "digest": {"sha256": "4" * 64}}]
    definition, run = (document["predicate"][name] for name in ("buildDefinition", "runDetails"))
    assert definition["externalParameters"]["source"]["dsc"]["digest"] == {"sha256": "2" * 64}
    assert definition["externalParameters"]["wishes"] == {"profiles": ["nocheck"]}
    dependencies = definition["resolvedDependencies"]
    assert [each["annotations"]["role"] for each in dependencies] == ["source", "source", "chroot", *["installed"] * 2]
    assert [each["uri"] for each in dependencies[3:]] == [
        "pkg:deb/debian/g%2B%2B@4:12.2.0-3",
        "pkg:deb/debian/libc6@2.36-9%2Bdeb12u14?arch=i386",
    ]
    assert (run["builder"]["id"], run["metadata"]["invocationId"]) == (FARM, f"{FARM}:build:3")
    assert run["byproducts"][0]["digest"] == {"sha256": "5" * 64}


def test_the_schemas_agree() -> None:
    """By in-toto's own schemas it is a statement with provenance, and has nothing that they do not know."""
    json_format = pytest.importorskip("google.protobuf.json_format")
    schemas = pytest.importorskip("in_toto_attestation.v1.statement_pb2")
    provenances = pytest.importorskip("in_toto_attestation.predicates.provenance.v1.provenance_pb2")
    checks = pytest.importorskip("in_toto_attestation.v1.statement")
    checks.Statement.copy_from_pb(json_format.Parse(STATEMENT, schemas.Statement())).validate()
    predicate = json.dumps(json.loads(STATEMENT)["predicate"])
    parsed = json_format.Parse(predicate, provenances.Provenance())
    assert len(parsed.build_definition.resolved_dependencies) == 5
    with pytest.raises(json_format.ParseError):
        json_format.Parse(predicate.replace("buildType", "buildKind"), provenances.Provenance())


def test_a_statement_is_the_same_each_time() -> None:
    """Whatever the order in which the database gives files."""
    others = replace(MADE, sources=list(reversed(MADE.sources)))
    assert provenance.statement(others, FARM, "0.1.0") == STATEMENT


def test_a_statement_is_read() -> None:
    """What was said comes out again."""
    told = provenance.parse(STATEMENT)
    assert told.files == {"hello_2.10-3_amd64.deb": "4" * 64}
    assert (told.source, told.version, told.dsc) == ("hello", "2.10-3", Digested("hello_2.10-3.dsc", "2" * 64))
    assert (told.builder, told.build, told.chroot, len(told.packages)) == ("bob", "3", "3" * 64, 2)
    assert told.place == "debian bookworm (release), archive mine, amd64"


def test_nobody_recorded_the_chroot() -> None:
    """Of a build from before that was recorded, and without log or .buildinfo, the rest is told."""
    told = provenance.parse(provenance.statement(replace(MADE, chroot="", installed=(), log=None), FARM, "0"))
    assert (told.chroot, told.packages) == ("", ())


def changed(*path: Any, to: Any) -> bytes:
    """The statement with one thing changed, or taken away."""
    document = json.loads(STATEMENT)
    place = document
    for key in path[:-1]:
        place = place[key]
    if to is None:
        del place[path[-1]]
    else:
        place[path[-1]] = to
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    "content, complaint",
    [
        (b"", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"x" * (17 << 20), "longer than"),
        (b"\xff\xfe", "no JSON"),
        (b"[]", "it has no _type"),
        (b"null", "it has no _type"),
        (changed("_type", to="https://in-toto.io/Statement/v0.1"), "_type is not"),
        (changed("predicateType", to="https://slsa.dev/provenance/v0.2"), "predicateType is not"),
        (changed("predicate", "buildDefinition", "buildType", to="other"), "another kind of build: 'other'"),
        (changed("predicate", "runDetails", to=None), "no runDetails"),
        (changed("predicate", "runDetails", "builder", "id", to=[]), "its id is no text"),
        (changed("subject", to={}), "list of files"),
        (changed("subject", to=[[]]), "list of files"),
        (changed("subject", 0, "digest", to={"sha1": "x"}), "no sha256"),
        (changed("subject", 0, "annotations", to="x"), "annotations"),
    ],
)
def test_a_bad_statement_is_refused(content: bytes, complaint: str) -> None:
    """What is no statement of ours is refused, and the message says why."""
    with pytest.raises(Malformed, match=complaint):
        provenance.parse(content)


def test_an_envelope_is_opened_by_its_key() -> None:
    """By the one that signed it, wherever that is among others, and by no other."""
    other = envelopes.public_key(OTHER)
    assert envelopes.unwrap(ENVELOPE, [other, KEY]) == STATEMENT
    with pytest.raises(BadSignature, match=f"signed by {KEY.key_id}, and the keys that count are: {other.key_id}"):
        envelopes.unwrap(ENVELOPE, [other])
    with pytest.raises(BadSignature, match="are: none"):
        envelopes.unwrap(ENVELOPE, [])


def test_a_signer_with_an_odd_name() -> None:
    """What an envelope says that nobody has signed cannot do anything to a terminal."""
    document = json.loads(ENVELOPE)
    document["signatures"][0]["keyid"] = "\x1b[2J\n"
    with pytest.raises(BadSignature) as caught:
        envelopes.unwrap(json.dumps(document).encode(), [KEY])
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("where", [("_type",), ("predicateType",), ("predicate", "buildDefinition", "buildType")])
def test_an_odd_type(where: tuple[str, ...]) -> None:
    """Nor can the type of a statement."""
    with pytest.raises(Malformed) as caught:
        provenance.parse(changed(*where, to="\x1b[2J"))
    assert str(caught.value).isprintable()


def test_what_was_changed_is_found_out() -> None:
    """A statement that was changed after it was signed, or has another's signature, is not good."""
    document = json.loads(ENVELOPE)
    for change in (
        {"payload": base64.b64encode(STATEMENT.replace(b"bob", b"eve")).decode()},
        {"signatures": [document["signatures"][0] | {"sig": base64.b64encode(b"x" * 64).decode()}]},
        {"signatures": [json.loads(envelopes.sign(STATEMENT, OTHER))["signatures"][0] | {"keyid": KEY.key_id}]},
    ):
        with pytest.raises(BadSignature, match="not of this content"):
            envelopes.unwrap(json.dumps(document | change).encode(), [KEY])


@pytest.mark.parametrize(
    "content, complaint",
    [
        (b"{}", "no envelope with"),
        (b"[1]", "no envelope"),
        (b'{"payload": 1, "payloadType": 1, "signatures": 1}', "no envelope with"),
        (b'{"payload": "", "payloadType": "", "signatures": [1]}', "no envelope with"),
        (b'{"payload": "", "payloadType": "text/plain", "signatures": []}', "of something else: 'text/plain'"),
        (b'{"payload": "", "payloadType": ["x"], "signatures": []}', "of something else"),
    ],
)
def test_a_bad_envelope_is_refused(content: bytes, complaint: str) -> None:
    """What is no envelope is refused, and the message says why."""
    with pytest.raises(Malformed, match=complaint):
        envelopes.unwrap(content, [KEY])


@given(st.integers(0, len(ENVELOPE)), st.binary(max_size=20), st.integers(0, 60))
def test_damage_never_passes(where: int, put: bytes, cut: int) -> None:
    """Whatever is done to an envelope, it is refused, or says what it said."""
    with contextlib.suppress(Malformed, BadSignature):
        assert envelopes.unwrap(ENVELOPE[:where] + put + ENVELOPE[where + cut :], [KEY]) == STATEMENT


@pytest.mark.parametrize("pem", [b"", b"\xff", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"])
def test_a_bad_key_is_refused(pem: bytes) -> None:
    """What is no public key is one clear error."""
    with pytest.raises(BadKey, match="no public key in PEM"):
        envelopes.parse_key(pem)


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    """A key of RSA is a good one, and not for this."""
    command = f"openssl genrsa 2048 | openssl pkey -pubout -out {tmp_path}/rsa.pem"
    subprocess.run(["sh", "-c", command], check=True, capture_output=True)
    with pytest.raises(BadKey, match="Ed25519"):
        envelopes.parse_key((tmp_path / "rsa.pem").read_bytes())


@pytest.mark.parametrize("secret", ["", "xy", "ab" * 31])
def test_a_bad_secret_is_refused(secret: str) -> None:
    """What is no secret key signs nothing."""
    with pytest.raises(BadKey, match="no secret key"):
        envelopes.sign(b"x", secret)


def test_openssl_agrees(tmp_path: Path) -> None:
    """The signature is good by openssl alone, over the bytes that the envelope's specification names."""
    document = json.loads(ENVELOPE)
    payload, kind = base64.b64decode(document["payload"]), document["payloadType"].encode()
    (tmp_path / "key.pem").write_text(KEY.pem)
    (tmp_path / "signature").write_bytes(base64.b64decode(document["signatures"][0]["sig"]))
    (tmp_path / "signed").write_bytes(b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload))
    command = "openssl pkeyutl -verify -pubin -inkey key.pem -rawin -in signed -sigfile signature"
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
