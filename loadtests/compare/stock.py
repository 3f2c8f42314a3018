"""python-socketio as its documentation shows it, on aiohttp: one process, listening on PORT."""

import os
import time
import uuid
from typing import Any

import socketio
from aiohttp import web

sio = socketio.AsyncServer(async_mode="aiohttp")
app = web.Application()
sio.attach(app)
routes = web.RouteTableDef()


@sio.event  # type: ignore[untyped-decorator] # the library is untyped
async def connect(sid: str, environ: dict[str, Any], auth: dict[str, Any]) -> None:  # noqa: ARG001 - the library's signature
    """A client signs in."""
    await sio.save_session(sid, {"uid": auth["token"]})
    await sio.enter_room(sid, f"user:{auth['token']}")
    for group in auth.get("groups", []):
        await sio.enter_room(sid, f"group:{group}")


@sio.event  # type: ignore[untyped-decorator] # the library is untyped
async def send_message(sid: str, message: dict[str, Any]) -> dict[str, Any]:
    """A message for a person or a group."""
    session = await sio.get_session(sid)
    group = message.get("groupId")
    room = f"group:{group}" if group else f"user:{message['recipientId']}"
    message_id = str(uuid.uuid4())
    body = {**message, "id": message_id, "senderId": session["uid"], "serverTime": int(time.time() * 1000)}
    await sio.emit("new_message", body, room=room, skip_sid=sid)
    return {"ok": True, "messageId": message_id}


@routes.post("/broadcast")
async def broadcast(request: web.Request) -> web.Response:
    """A warning for everyone."""
    body = await request.json()
    body |= {"broadcastId": str(uuid.uuid4()), "timestamp": int(time.time() * 1000)}
    await sio.emit("emergency_broadcast", body)
    return web.Response()


@routes.get("/readyz")
async def readyz(_: web.Request) -> web.Response:
    """It listens."""
    return web.Response()


if __name__ == "__main__":
    app.add_routes(routes)
    web.run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]), print=None)
