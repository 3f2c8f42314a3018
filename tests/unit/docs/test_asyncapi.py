"""`docs/asyncapi.yaml` is valid AsyncAPI 3, says what the wire types say, and names what the services emit."""

import ast
import copy
import json
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ed25519

from docs import asyncapi, examples, schemas
from libs.wire import events, payloads
from libs.wire.codes import Code, is_retryable
from tests.support.asyncapi import wrong

DOCUMENT: Final = asyncapi.document()
_KINDS: Final[list[type[msgspec.Struct]]] = sorted(
    {*payloads.type_of_event.values(), *payloads.answer_of_event.values(), payloads.Refused}, key=str
)
_SERVICES: Final = ("gateway", "router", "presence")
# Where in a call the name of an event stands.
_EVENT_ARGUMENTS: Final = {"emit": 0, "Emit": 1, "ToUsers": 2, "emit_due": 0, "Held": 0}


def test_the_committed_document_is_what_the_types_say() -> None:
    """After a change of the wire types: `make docs`."""
    committed = asyncapi.PAGE.read_text(encoding="utf-8")
    assert committed == asyncapi.text()
    assert yaml.safe_load(committed) == DOCUMENT
    assert "నమస్తే" in committed  # on the wire it is not escaped either


async def test_it_is_valid_and_its_examples_are() -> None:
    """By the specification's own schema; each example by the schema of its payload."""
    assert await wrong(DOCUMENT) == []


async def test_what_is_not_valid_is_found() -> None:
    """The check above would not pass over an operation that does nothing, or a number that is none."""
    document = copy.deepcopy(DOCUMENT)
    del document["operations"]["send_new_message"]["action"]
    document["components"]["messages"]["server.new_message"]["examples"][0]["payload"]["seq"] = "7"
    assert {where for where, _ in await wrong(document)} == {"the document", "server.new_message"}


def test_every_reference_leads_somewhere() -> None:
    """The schema of the specification does not look."""
    for reference in _references(DOCUMENT):
        place: Any = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]


def test_every_event_and_every_answer_is_in_it() -> None:
    """What the code registers, with the answer that each event of a client's gets, and nothing else."""
    expected = {f"receive_{name}" for name in events.type_of_event} | {
        f"send_{name}" for name in payloads.type_of_event
    }
    assert DOCUMENT["operations"].keys() == expected
    assert payloads.answer_of_event.keys() == events.type_of_event.keys()
    assert payloads.confirmed_events <= payloads.type_of_event.keys()
    for name, kind in payloads.answer_of_event.items():
        replies = [reply["$ref"] for reply in DOCUMENT["operations"][f"receive_{name}"]["reply"]["messages"]]
        assert [reply.rpartition("/")[2] for reply in replies] == [f"answer.{kind.__name__}", "answer.Refused"]


def test_every_code_is_in_it() -> None:
    """With its words, and whether to try again."""
    said = {choice["const"]: choice["x-retryable"] for choice in DOCUMENT["components"]["schemas"]["Code"]["oneOf"]}
    assert said == {code.value: is_retryable(code) for code in Code}


def test_a_type_without_a_sentence_is_named() -> None:
    """The document has one for everything."""
    with pytest.raises(ValueError, match="needs a docstring"):
        schemas.summary(msgspec.defstruct("Speechless", []))


# --- the examples ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", events.type_of_event)
def test_an_example_of_a_client_event_is_taken(name: str) -> None:
    """It is read as its type and passes that type's own checks; it has no field that the type has not."""
    event = events.read(name, msgspec.Raw(json.dumps(examples.sent[name]).encode()))
    assert examples.sent[name].keys() <= {field.encode_name for field in msgspec.structs.fields(event)}
    match event:
        case events.SendMessage():
            event.draft("asha")
        case events.EmergencyBroadcast() | events.GetPresence():
            event.check()
        case events.PublishKeys(identity_key=identity_key, signed_pre_key=signed):
            public, signature = _bytes(signed.public_key), _bytes(signed.signature)
            ed25519.Ed25519PublicKey.from_public_bytes(_bytes(identity_key)).verify(signature, public)


@pytest.mark.parametrize("kind", _KINDS, ids=lambda kind: kind.__name__)
def test_an_example_of_what_a_client_receives_is_of_its_type(kind: type[msgspec.Struct]) -> None:
    """Field by field, and none besides."""
    example = examples.received[kind]
    msgspec.json.decode(json.dumps(example), type=kind)
    assert example.keys() <= {field.encode_name for field in msgspec.structs.fields(kind)}


def test_there_are_no_other_examples() -> None:
    """An example of what is gone misleads."""
    assert examples.sent.keys() == events.type_of_event.keys()
    assert examples.received.keys() == set(_KINDS)


# --- what the services emit --------------------------------------------------------------------


def test_every_event_that_is_emitted_has_a_type() -> None:
    """A name that the contract does not have reaches no app."""
    assert {name for module in _modules() for name in _emitted(module)} <= payloads.type_of_event.keys()


def test_every_event_that_has_a_type_is_emitted() -> None:
    """An app waits in vain for what is only written down."""
    literals = {text for module in _modules() for text in _literals(module)}
    assert payloads.type_of_event.keys() - literals == set()


def test_an_event_is_found_wherever_a_service_names_it() -> None:
    """Said to a socket, to users, or with an answer."""
    module = ast.parse(
        "socket.emit('a', body)\n"
        "session.socket.emit(event='b', body=body)\n"
        "ToUsers(0, users, 'c', body)\n"
        "Emit(users, 'd', body)\n"
        "answers.accepted(0, origin, body, ('e', body))\n"
        "emit = ('f', payloads.encode(body))\n"
        "log.info('no event')\n"
        "pair = ('not', 'one')\n"
    )
    assert set(_emitted(module)) == set("abcdef")


# --- the means -----------------------------------------------------------------------------------


def _references(part: Any) -> Iterator[str]:
    match part:
        case {"$ref": str(reference)}:
            yield reference
        case dict():
            for inner in part.values():
                yield from _references(inner)
        case list():
            for inner in part:
                yield from _references(inner)


def _modules() -> Iterator[ast.Module]:
    for service in _SERVICES:
        for file in (asyncapi.ROOT / "services" / service).rglob("*.py"):
            yield ast.parse(file.read_text(encoding="utf-8"))


def _emitted(module: ast.Module) -> Iterator[str]:
    """Names of events, where they stand as such: in a call that emits, or before an encoded body."""
    for node in ast.walk(module):
        match node:
            case ast.Call(func=ast.Attribute(attr=called) | ast.Name(id=called)) if called in _EVENT_ARGUMENTS:
                place = _EVENT_ARGUMENTS[called]
                named = [keyword.value for keyword in node.keywords if keyword.arg == "event"]
                yield from _texts([*node.args[place : place + 1], *named])
            case ast.Tuple(elts=[ast.Constant(value=str(name)), ast.Name(id="body")]):
                yield name
            case ast.Tuple(
                elts=[ast.Constant(value=str(name)), ast.Call(func=ast.Attribute(value=ast.Name(id=owner)))]
            ):
                if owner in ("payloads", "bodies"):
                    yield name


def _literals(module: ast.Module) -> Iterator[str]:
    yield from _texts(list(ast.walk(module)))


def _texts(nodes: list[Any]) -> Iterator[str]:
    for node in nodes:
        match node:
            case ast.Constant(value=str(text)):
                yield text


def _bytes(base64: str) -> bytes:
    return bytes(msgspec.convert(base64, bytes))
