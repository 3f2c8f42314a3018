"""What a gateway sees to in an anonymous message: that nothing that goes with it names its sender. Pure.

Everything else is the router's: the gateway seals the frame (`Uplink`) and does not know the pseudonym.
"""

from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from libs.wire import names
from libs.wire.codes import Code, Refusal
from libs.wire.events import Draft

# Apps put these into the metadata of every message.
_IDENTITY: Final = frozenset({"senderId", "senderName", "userId", "uid"})
# Encoded more often than this, an address leads nowhere.
_LAYERS: Final = 3


def checked(draft: Draft, user_id: str) -> Draft:
    """The draft without the fields that claim an identity. Raises `Refusal` if an address or a value names the sender.

    Storage paths do: `users%2F<uid>%2Fphoto.jpg`.
    """
    if draft.conversation_id == names.direct(user_id, user_id):
        raise Refusal(Code.INVALID_PAYLOAD, "Nobody is anonymous to themselves.")
    try:
        metadata = _without_identity(msgspec.json.decode(draft.media_metadata)) if draft.media_metadata else None
        is_exposed = any(_names(text, user_id) for text in _texts([draft.media_url, metadata]))
    except RecursionError as error:
        raise Refusal(Code.INVALID_PAYLOAD, "The metadata is nested too deep.") from error
    if is_exposed:
        raise Refusal(Code.IDENTITY_EXPOSED)
    return msgspec.structs.replace(draft, media_metadata=msgspec.json.encode(metadata) if metadata else None)


def recipient_of(draft: Draft, user_id: str) -> str | None:
    """Whose partition an anonymous direct message goes to: its own conversation, the router finds."""
    pair = names.direct_pair(draft.conversation_id) if draft.is_anonymous else None
    if pair is None or user_id not in pair or names.is_pseudonymous(draft.conversation_id):
        return None
    return pair[0] if pair[1] == user_id else pair[1]


def _without_identity(value: Any) -> Any:
    match value:
        case dict():
            return {key: _without_identity(each) for key, each in value.items() if key not in _IDENTITY}
        case list():
            return [_without_identity(each) for each in value]
    return value


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for key, each in value.items():
                yield key
                yield from _texts(each)
        case list():
            for each in value:
                yield from _texts(each)


def _names(text: str, user_id: str) -> bool:
    """Whether a text holds the id, in whatever case, plain or encoded as addresses are."""
    wanted = user_id.casefold()
    for _ in range(_LAYERS):
        if wanted in text.casefold():
            return True
        text = unquote(text)
    return wanted in text.casefold()
