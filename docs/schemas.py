"""Wire types as JSON schemas, as a reader wants them: what msgspec says of a type, without its noise."""

import inspect
import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec
from msgspec import Struct

from libs.wire.codes import Code, is_retryable, words

Json = dict[str, Any]

_SENTENCE: Final = re.compile(r".+?[.?](?=\s|$)", re.DOTALL)
# Bodies that are encoded already: the types have `Raw` for them.
_LISTS_OF_MESSAGES: Final = (
    ("OfflineMessages", "messages"),
    ("ConversationHistory", "messages"),
    ("SearchResults", "results"),
)


def of_client(kinds: Iterable[type[Struct]]) -> Json:
    """The schemas of what a client sends, and of what is in it, by name."""
    return _named("client", kinds)


def of_server(kinds: Iterable[type[Struct]]) -> Json:
    """The schemas of what a client receives, and of what is in it, by name; with them that of the codes."""
    found = _named("server", kinds)
    for kind, field in _LISTS_OF_MESSAGES:
        found[name("server", kind)]["properties"][field]["items"] = ref("schemas", name("server", "NewMessage"))
    for schema in found.values():
        if "code" in schema["properties"]:
            schema["properties"]["code"] = ref("schemas", "Code")
    return {"Code": _codes(), **found}


def summary(kind: type[Struct]) -> str:
    """The first sentence of a type's docstring. Raises `ValueError` where there is none."""
    sentence = _SENTENCE.match(inspect.cleandoc(kind.__doc__ or ""))
    if sentence is None:
        raise ValueError(f"{kind.__module__}.{kind.__qualname__} needs a docstring that begins with a sentence")
    return " ".join(sentence[0].split())


def name(side: str, kind: str) -> str:
    """How a schema is called: both sides have an `EmergencyBroadcast`."""
    return f"{side}.{kind}"


def ref(part: str, name: str) -> Json:
    """A reference to a component."""
    return {"$ref": f"#/components/{part}/{name}"}


def _named(side: str, kinds: Iterable[type[Struct]]) -> Json:
    template = f"#/components/schemas/{name(side, '{name}')}"
    _, found = msgspec.json.schema_components(list(dict.fromkeys(kinds)), ref_template=template)
    return {name(side, kind): _plain(schema) for kind, schema in found.items()}


def _plain(schema: Any) -> Any:
    """No titles, no empty lists, no `default: null`; one `type` for what may be null."""
    match schema:
        case {"anyOf": [{"type": str(kind), **rest}, {"type": "null"}]} if "enum" not in rest:
            return {"type": [kind, "null"], **_plain(rest)}
        case {"properties": dict(properties), "required": list(required)}:
            plain: Json = {"description": inspect.cleandoc(schema["description"])} if "description" in schema else {}
            plain |= {"type": "object", "properties": {field: _plain(inner) for field, inner in properties.items()}}
            return plain | {"required": required} if required else plain
        case dict():
            return {key: _plain(value) for key, value in schema.items() if (key, value) != ("default", None)}
        case list():
            return [_plain(item) for item in schema]
    return schema


def _codes() -> Json:
    return {
        "description": "Why not. `x-retryable` says whether the same request, unchanged, may succeed later.",
        "type": "string",
        "oneOf": [
            {"const": code.value, "description": words(code), "x-retryable": is_retryable(code)} for code in Code
        ],
    }
