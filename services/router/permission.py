"""Who may do what. Pure: it is given the documents and says yes, or why not."""

from typing import Final

from libs.wire import names
from libs.wire.codes import Code, Refusal
from services.router.store import Group, User

_MAY_ALARM: Final = frozenset({"coordinator", "admin", "founder"})


def check_send(kind: str, role: str, *, is_anonymous: bool) -> None:
    """May this role send this kind of message at all? Raises `Refusal`."""
    if kind == "emergency" and role not in _MAY_ALARM:
        raise Refusal(Code.ROLE_REQUIRED)
    if is_anonymous:
        # Better refused than delivered under a name that was to be hidden.
        raise Refusal(Code.ANONYMOUS_UNAVAILABLE)


def may_broadcast(role: str) -> bool:
    """May this role warn whole villages?"""
    return role in _MAY_ALARM


def check_direct(sender: User | None, recipient: User | None) -> None:
    """May these two write to each other? Raises `Refusal`."""
    if recipient is None or recipient.disabled:
        raise Refusal(Code.RECIPIENT_NOT_FOUND)
    if sender is None or sender.disabled:
        raise Refusal(Code.ACCESS_DENIED)
    if recipient.id in sender.blocked or sender.id in recipient.blocked:
        raise Refusal(Code.BLOCKED)


def check_member(user_id: str, group: Group | None) -> None:
    """Is this user in this group? Outside, nobody learns whether it exists. Raises `Refusal`."""
    if group is None or user_id not in group.members:
        raise Refusal(Code.ACCESS_DENIED)


def check_participant(user_id: str, conversation_id: str, group: Group | None) -> None:
    """May this user read this conversation? Raises `Refusal`."""
    pair = names.direct_pair(conversation_id)
    if pair is None:
        check_member(user_id, group)
    elif user_id not in pair:
        raise Refusal(Code.ACCESS_DENIED)
