"""Where builders fetch files: from the store itself, where it can, else from the master."""

import time
import urllib.request
from pathlib import Path
from typing import cast

import pytest

from buildmaster.dispatch import Dispatcher
from buildmaster.farm import Farm
from buildmaster.leases import Tenure
from buildmaster.tests.stores import KINDS, make_store

MASTER = "http://master:8220"


@pytest.mark.parametrize("kind", KINDS)
def test_url(farm: Farm, tmp_path: Path, kind: str) -> None:
    """A folder's files are the master's to serve; a bucket's are fetched there, with nothing but the URL."""
    farm.store = make_store(kind, tmp_path)
    stored = farm.store.add([b"a chroot"])
    url = Dispatcher(farm, cast(Tenure, None), time.time, MASTER).url(stored, "chroot+1.tar.gz")
    if kind == "local":
        assert url == f"{MASTER}/files/{stored.sha256}/chroot%2B1.tar.gz"
        return
    assert not url.startswith(MASTER)
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == b"a chroot"
