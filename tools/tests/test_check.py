"""What `make check` runs."""

import re
import tomllib

from tools.places import CHECKOUT


def test_every_test_is_run() -> None:
    """tools/check names each directory in which pytest finds tests by itself."""
    found = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["testpaths"]
    runs = re.findall(r"pytest -q -o cache_dir=\S+ ([a-z ]+)", (CHECKOUT / "tools/check").read_text())
    assert sorted(" ".join(runs).split()) == sorted(found)
