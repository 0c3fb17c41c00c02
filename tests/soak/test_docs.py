"""The documentation site: it is built with strict links, and loads nothing from elsewhere."""

import os
import re
import subprocess

import pytest

from tests.support.runs import ROOT

pytestmark = pytest.mark.soak


def test_the_site_is_built_and_needs_no_network() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        ["make", "--no-print-directory", "docs"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pages = sorted((ROOT / "site").rglob("*.html"))
    assert len(pages) >= 18
    loaded = re.compile(r"<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)=[\"']?(https?:[^\"'> ]+)")
    assert {url for page in pages for url in loaded.findall(page.read_text())} == set()
