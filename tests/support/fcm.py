"""What stands in for Firebase Cloud Messaging: its HTTP v1 API, which takes what it is sent, or refuses as told to."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from aiohttp import test_utils, web

_FCM_ERROR: Final = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
_ERRORS: Final = {
    "UNREGISTERED": (404, "NOT_FOUND"),
    "QUOTA_EXCEEDED": (429, "RESOURCE_EXHAUSTED"),
    "UNAVAILABLE": (503, "UNAVAILABLE"),
    "INVALID_ARGUMENT": (400, "INVALID_ARGUMENT"),
}


class Fcm:
    """Keeps every message that it took, in order. `refusals` are told to the next messages to a token, in turn."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []
        self.refusals: dict[str, list[str]] = {}
        self.url = ""

    def to(self, target: str) -> list[dict[str, Any]]:
        """What was taken for a token or a topic."""
        return [message for message in self.taken if target in (message.get("token"), message.get("topic"))]

    async def answer(self, request: web.Request) -> web.Response:
        """One message."""
        message = (await request.json())["message"]
        refusals = self.refusals.get(message.get("token", ""), [])
        if refusals:
            code = refusals.pop(0)
            status, name = _ERRORS[code]
            details = [{"@type": _FCM_ERROR, "errorCode": code}]
            return web.json_response(
                {"error": {"code": status, "status": name, "message": code, "details": details}}, status=status
            )
        self.taken.append(message)
        return web.json_response({"name": f"projects/{request.match_info['project']}/messages/{len(self.taken)}"})


@asynccontextmanager
async def fcm() -> AsyncIterator[Fcm]:
    """One that listens."""
    service = Fcm()
    app = web.Application()
    app.router.add_post("/v1/projects/{project}/messages:send", service.answer)
    async with test_utils.TestServer(app) as server:
        service.url = str(server.make_url("")).rstrip("/")
        yield service
