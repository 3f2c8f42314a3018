"""Who may do what. Pure: it is given the documents and says yes, or why not."""

from libs.wire import names
from libs.wire.codes import Code, Refusal
from libs.wire.events import MAY_WARN
from services.router.store import Group, User


def check_send(kind: str, role: str) -> None:
    """May this role send this kind of message at all? Raises `Refusal`."""
    if kind == "emergency" and role not in MAY_WARN:
        raise Refusal(Code.ROLE_REQUIRED)


def may_broadcast(role: str) -> bool:
    """May this role warn whole villages?"""
    return role in MAY_WARN


def check_pseudonymous(sender_id: str, standing: str, pair: tuple[str, str], *, is_anonymous: bool) -> None:
    """May this user, who stands so in a conversation begun under a pseudonym, write in it? Raises `Refusal`.

    Only who began it, and only anonymously: under their name, they would give themselves away.
    """
    if standing == sender_id:
        raise Refusal(Code.NO_REPLY if sender_id in pair else Code.ACCESS_DENIED)
    if not is_anonymous:
        raise Refusal(Code.IDENTITY_EXPOSED, "In this conversation you are anonymous. Nothing was sent.")


def check_direct(sender: User | None, recipient: User | None, pseudonym: str = "") -> None:
    """May these two write to each other? A pseudonym can be blocked like a user. Raises `Refusal`."""
    if recipient is None or recipient.disabled:
        raise Refusal(Code.RECIPIENT_NOT_FOUND)
    if sender is None or sender.disabled:
        raise Refusal(Code.ACCESS_DENIED)
    if recipient.id in sender.blocked or not recipient.blocked.isdisjoint((sender.id, pseudonym)):
        raise Refusal(Code.BLOCKED)


def check_member(user_id: str, group: Group | None) -> None:
    """Is this user in this group? Outside, nobody learns whether it exists. Raises `Refusal`."""
    if group is None or user_id not in group.members:
        raise Refusal(Code.ACCESS_DENIED)


def check_participant(user_id: str, conversation_id: str, group: Group | None) -> None:
    """May this user read this conversation? Nobody signs in as a pseudonym. Raises `Refusal`."""
    pair = names.direct_pair(conversation_id)
    if pair is None:
        check_member(user_id, group)
    elif user_id not in pair or names.is_pseudonym(user_id):
        raise Refusal(Code.ACCESS_DENIED)
