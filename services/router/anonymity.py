"""Who wrote an anonymous message, and under which name: decided here, known to nobody else. No I/O.

In the record, and to whoever receives it, an anonymous message is a pseudonym's. Its author, and the author's
own ids of it, are sealed beside it: only a router opens them, to tell the author how far it has come.

A pseudonym is a keyed hash of (user, conversation). So is the key of an anonymous message of (user, clientId):
a plain hash would confirm a guess. A direct conversation is begun under a pseudonym of the author for that
recipient, as its id would name them: `direct:anon-…:ravi`. In it the author *stands* as the pseudonym; in a group
they stand as themselves, one member among the others, to whom a message of theirs is due like any other.
"""

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from msgspec import Struct

from libs.identity import Seals, Unopenable
from libs.wire import names
from libs.wire.frames import Send
from services.router.store import Message

NAME: Final = "Anonymous"
ROLE: Final = "member"

_KEY_BYTES: Final = 16
# Seals are as long as the next multiple: their length tells little of the ids in them.
_PADDED: Final = 128


class Author(Struct, frozen=True):
    """Whom to tell of a message, by their own ids of it. What is told to a hidden one is sealed."""

    user_id: str
    client_id: str
    client_message_id: str
    is_hidden: bool = False


def author_of(send: Send) -> Author:
    """Who sends this now."""
    draft = send.draft
    return Author(send.sender.user_id, draft.client_id, draft.client_message_id, draft.is_anonymous)


class Anonymity:
    """Hides authors under keys that only routers hold. `unopened` is called for a seal that no key opens."""

    def __init__(self, keys: Sequence[str], pseudonym_secret: str, unopened: Callable[[], None]) -> None:
        self._seals = Seals(keys, "an author")
        self._secret = pseudonym_secret.encode()
        self._unopened = unopened

    def key(self, user_id: str, client_id: str) -> str:
        """What makes an anonymous message one message: 32 hex digits."""
        return self._hash("key", user_id, client_id)[:_KEY_BYTES].hex()

    def direct(self, user_id: str, recipient_id: str) -> str:
        """The conversation in which this user writes to that one anonymously."""
        return names.direct(names.pseudonym(self._hash("direct", user_id, recipient_id)), recipient_id)

    def pseudonym(self, user_id: str, conversation_id: str) -> str:
        """What this user is called in this conversation."""
        standing = self.standing(user_id, conversation_id)
        return standing if standing != user_id else names.pseudonym(self._hash("group", user_id, conversation_id))

    def standing(self, user_id: str, conversation_id: str) -> str:
        """The user, or their pseudonym in the direct conversation that they began under it."""
        pair = names.direct_pair(conversation_id) if names.is_pseudonymous(conversation_id) else None
        for recipient in pair or ():
            if self.direct(user_id, recipient) == conversation_id:
                return names.pseudonym(self._hash("direct", user_id, recipient))
        return user_id

    def hide(self, message: Message) -> Message:
        """The message as it may be kept and shown."""
        ids = msgspec.json.encode((message.sender_id, message.client_id, message.client_message_id))
        padded = ids.ljust(-(-len(ids) // _PADDED) * _PADDED)  # JSON may end in spaces
        return msgspec.structs.replace(
            message,
            sender_id=self.pseudonym(message.sender_id, message.conversation_id),
            sender_name=NAME,
            sender_role=ROLE,
            client_id="",
            client_message_id="",
            # A phone's clock is wrong by its own few seconds: by them its owner could be told in every conversation.
            timestamp_ms=message.server_time_ms,
            is_anonymous=True,
            sealed=urlsafe_b64encode(self._seals.seal(padded, message.key.encode())).decode(),
        )

    def author(self, message: Message) -> Author | None:
        """Who wrote an anonymous message; None if its key was retired."""
        try:
            ids = self._seals.open(urlsafe_b64decode(message.sealed or ""), message.key.encode())
        except (Unopenable, ValueError):
            self._unopened()
            return None
        return Author(*msgspec.json.decode(ids, type=tuple[str, str, str]), is_hidden=True)

    def _hash(self, purpose: str, *parts: str) -> bytes:
        # No id holds a NUL, a clientId may: it comes last.
        return hmac.digest(self._secret, "\0".join(("talowa 1", purpose, *parts)).encode(), hashlib.sha256)
