#!/usr/bin/env python3
"""The pip that `requirements/build.txt` pins, for a base image that has Python and no pip: `fetch_pip.py build.txt`.

It is taken from the index that PIP_INDEX_URL names, as only pip knows one by itself, and checked against the hash that
is pinned: certificates, which such a base may lack as well, are not looked at.
"""

import hashlib
import io
import os
import re
import site
import ssl
import sys
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path

PINNED = re.compile(r"^pip==(\S+)((?:\s*\\\s*--hash=sha256:[0-9a-f]{64})+)", re.MULTILINE)


def main() -> None:
    """Unpack it where this Python finds it."""
    pin = PINNED.search(Path(sys.argv[1]).read_text(encoding="utf-8"))
    if pin is None:
        sys.exit(f"{sys.argv[1]} pins no pip")
    index = os.environ.get("PIP_INDEX_URL")
    if not index:
        sys.exit("This base has no pip. Say where it is to be had: --build-arg PIP_INDEX_URL=https://…/simple")
    name = f"pip-{pin[1]}-py3-none-any.whl"
    page = index.rstrip("/") + "/pip/"
    link = re.search(rf'href="([^"]*{re.escape(name)})(?:#[^"]*)?"', fetch(page).decode())
    if link is None:
        sys.exit(f"{page} has no {name}")
    wheel = fetch(urllib.parse.urljoin(page, link[1]))
    if hashlib.sha256(wheel).hexdigest() not in pin[2]:
        sys.exit(f"{name} is not what is pinned")
    zipfile.ZipFile(io.BytesIO(wheel)).extractall(site.getsitepackages()[0])


def fetch(address: str) -> bytes:
    """What is there."""
    context = ssl._create_unverified_context()  # noqa: S323, SLF001 - what comes is checked by its hash
    with urllib.request.urlopen(address, context=context, timeout=60) as answer:  # noqa: S310 - an index is https
        return bytes(answer.read())


if __name__ == "__main__":
    main()
