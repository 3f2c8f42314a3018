"""An AsyncAPI document, held against the specification's schema, and its examples against its own. Needs Node."""

import asyncio
import json
import shutil
from typing import Any

from tests.support.clients.javascript import CLIENTS_DIR, install


async def wrong(document: dict[str, Any]) -> list[Any]:
    """What is wrong with a document, examples included. Raises AssertionError where Node is missing."""
    await install()
    node = shutil.which("node")
    assert node is not None, "AsyncAPI's schema is checked with Node 20 or newer, which is not on the path"
    pipe = asyncio.subprocess.PIPE
    checking = await asyncio.create_subprocess_exec(node, CLIENTS_DIR / "asyncapi.mjs", stdin=pipe, stdout=pipe)
    said, _ = await checking.communicate(json.dumps(document).encode())
    assert checking.returncode == 0
    found: list[Any] = json.loads(said)
    return found
