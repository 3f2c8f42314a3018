"""`docs/asyncapi.yaml`: the client contract for machines, made of the types in `libs/wire`. `make docs` writes it.

An event of a client's is an operation that receives, and its acknowledgement is the reply. An event of the
server's is an operation that sends; one that a client confirms by acknowledging it has a reply as well. All of it
goes through one channel, the namespace `/`.
"""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml
from msgspec import Struct

from docs import examples, schemas
from docs.schemas import Json, ref, summary
from libs.wire import events, payloads

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = ROOT / "docs" / "asyncapi.yaml"

_INFO: Final = """\
What an app and the cluster say to each other over Socket.IO 5 (Engine.IO 4), by WebSocket or polling. Each event has
one argument, a JSON object. Every event of a client's takes an acknowledgement, which holds the answer: its fields and
`ok: true`, or `ok: false` and an `error`. A refusal also comes as the event `error`, that of `send_message` as
`message_error`. Before `auth_success` every event but `authenticate` is refused with `not_authenticated`. Fields that
are not named here are ignored.

Times are milliseconds since 1970. docs/protocol.md has the promises behind the shapes.
"""
_SIGN_IN: Final = {
    "token": "`auth: {token}` in the handshake (Socket.IO's CONNECT), or `authenticate` after it: an ID token.",
    "resumeTicket": "`auth: {resumeTicket}` in the handshake: what the last `auth_success` gave.",
}
_CHANNEL: Final = {"$ref": "#/channels/namespace"}
# Longer lists of words are written one a line.
_SHORT: Final = 100


def document() -> Json:
    """The document, in the order in which it is written."""
    answers: list[type[Struct]] = [*dict.fromkeys(payloads.answer_of_event.values()), payloads.Refused]
    messages = {
        **{f"client.{name}": _sent(name, kind) for name, kind in events.type_of_event.items()},
        **{f"server.{name}": _received(name, kind) for name, kind in payloads.type_of_event.items()},
        **{f"answer.{kind.__name__}": _answer(kind) for kind in answers},
        "answer.confirmation": {"summary": "A client's acknowledgement; what is in it is not read.", "payload": {}},
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "TALOWA messaging",
            "version": tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"],
            "description": _INFO,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"gateway": _gateway()},
        "channels": {
            "namespace": {
                "address": "/",
                "description": "Socket.IO's default namespace, the only one.",
                "messages": {key: ref("messages", key) for key in messages},
            }
        },
        "operations": dict(_operations()),
        "components": {
            "securitySchemes": {
                key: {"type": "apiKey", "in": "password", "description": text} for key, text in _SIGN_IN.items()
            },
            "messages": messages,
            "schemas": {
                **schemas.of_client(events.type_of_event.values()),
                **schemas.of_server((*payloads.type_of_event.values(), *answers)),
            },
        },
    }


def text() -> str:
    """The document as YAML."""
    body = yaml.dump(document(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return f"# Made by `make docs` from libs/wire; a test compares.\n{body}"


def _gateway() -> Json:
    return {
        "host": "{host}",
        "pathname": "/socket.io/",
        "protocol": "socketio",
        "protocolVersion": "5",
        "description": "Any gateway of the cluster, or what stands before them.",
        "variables": {"host": {"default": "localhost:3001", "description": "`GET /info` says where to connect."}},
        "security": [ref("securitySchemes", key) for key in _SIGN_IN],
    }


def _operations() -> Iterator[tuple[str, Json]]:
    for name, kind in events.type_of_event.items():
        answer = f"answer.{payloads.answer_of_event[name].__name__}"
        yield f"receive_{name}", _operation("receive", kind, f"client.{name}", answer, "answer.Refused")
    for name, kind in payloads.type_of_event.items():
        replies = ("answer.confirmation",) if name in payloads.confirmed_events else ()
        yield f"send_{name}", _operation("send", kind, f"server.{name}", *replies)


def _operation(action: str, kind: type[Struct], message: str, *replies: str) -> Json:
    operation = {
        "action": action,
        "channel": _CHANNEL,
        "summary": summary(kind),
        "messages": [{"$ref": f"#/channels/namespace/messages/{message}"}],
    }
    if replies:
        messages = [{"$ref": f"#/channels/namespace/messages/{reply}"} for reply in replies]
        operation["reply"] = {"channel": _CHANNEL, "messages": messages}
    return operation


def _sent(name: str, kind: type[Struct]) -> Json:
    return _message("client", kind, examples.sent[name], name)


def _received(name: str, kind: type[Struct]) -> Json:
    return _message("server", kind, examples.received[kind], name)


def _message(side: str, kind: type[Struct], example: Any, name: str) -> Json:
    return {
        "name": name,
        "summary": summary(kind),
        "payload": ref("schemas", schemas.name(side, kind.__name__)),
        "examples": [{"payload": example}],
    }


def _answer(kind: type[Struct]) -> Json:
    ok = kind is not payloads.Refused
    fields = {"type": "object", "properties": {"ok": {"const": ok}}, "required": ["ok"]}
    return {
        "summary": summary(kind),
        "payload": {"allOf": [ref("schemas", schemas.name("server", kind.__name__)), fields]},
        "examples": [{"payload": {"ok": ok, **examples.received[kind]}}],
    }


class _Dumper(yaml.SafeDumper):
    """No anchors, what is the same is written again; long texts keep their lines, short lists have one."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


def _text_node(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


def _list_node(dumper: yaml.SafeDumper, value: list[Any]) -> yaml.SequenceNode:
    is_short = all(isinstance(item, str) for item in value) and sum(map(len, value)) < _SHORT
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=is_short)


_Dumper.add_representer(str, _text_node)
_Dumper.add_representer(list, _list_node)


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
