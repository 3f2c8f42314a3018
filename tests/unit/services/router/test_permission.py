"""Who may do what, and what those who may not are told."""

import pytest

from libs.wire.codes import Code, Refusal
from services.router import permission
from services.router.store import Group, User
from tests.unit.services.router.fakes import FIELD, RAMA_SITA

RAMA, SITA = User("rama", "Rama"), User("sita", "Sita")
TEAM = Group("field", "Field", frozenset({"rama", "sita"}))


@pytest.mark.parametrize("role", ["coordinator", "admin", "founder"])
def test_those_who_may_alarm_may_send_emergencies(role: str) -> None:
    """Coordinators, admins and founders."""
    permission.check_send("emergency", role)


@pytest.mark.parametrize("role", ["member", "", "Admin", "anything"])
def test_others_may_not_send_emergencies(role: str) -> None:
    """A role that is not known is no more than a member's."""
    with pytest.raises(Refusal) as refused:
        permission.check_send("emergency", role)
    assert refused.value.code is Code.ROLE_REQUIRED


@pytest.mark.parametrize("kind", ["text", "image", "document", "voice", "location"])
def test_everyone_may_send_the_rest(kind: str) -> None:
    """Emergencies are the only kind that needs a role."""
    permission.check_send(kind, "member")


def test_two_who_exist_may_write_to_each_other() -> None:
    """And to themselves: notes."""
    permission.check_direct(RAMA, SITA)
    permission.check_direct(RAMA, RAMA)


@pytest.mark.parametrize(
    ("sender", "recipient", "code"),
    [
        (RAMA, None, Code.RECIPIENT_NOT_FOUND),
        (RAMA, User("sita", "Sita", disabled=True), Code.RECIPIENT_NOT_FOUND),
        (None, SITA, Code.ACCESS_DENIED),
        (User("rama", "Rama", disabled=True), SITA, Code.ACCESS_DENIED),
        (RAMA, User("sita", "Sita", blocked=frozenset({"rama"})), Code.BLOCKED),
        (User("rama", "Rama", blocked=frozenset({"sita"})), SITA, Code.BLOCKED),
    ],
)
def test_a_direct_message_that_may_not_be_is_refused_with_its_code(
    sender: User | None, recipient: User | None, code: Code
) -> None:
    """Blocking works both ways, whoever blocked; who is disabled is not there."""
    with pytest.raises(Refusal) as refused:
        permission.check_direct(sender, recipient)
    assert refused.value.code is code


def test_only_members_write_in_a_group() -> None:
    """Outside, a group that does not exist and one that one is not in look the same."""
    permission.check_member("rama", TEAM)
    codes = []
    for group in (TEAM, None):
        with pytest.raises(Refusal) as refused:
            permission.check_member("lata", group)
        codes.append((refused.value.code, refused.value.message))
    assert codes[0] == codes[1]
    assert codes[0][0] is Code.ACCESS_DENIED


def test_only_the_two_read_a_direct_conversation() -> None:
    """Whatever group documents say."""
    permission.check_participant("sita", RAMA_SITA, None)
    with pytest.raises(Refusal):
        permission.check_participant("lata", RAMA_SITA, TEAM)


def test_only_members_read_a_group() -> None:
    """What is no conversation at all has no members."""
    permission.check_participant("sita", FIELD, TEAM)
    for user, group in (("lata", TEAM), ("sita", None)):
        with pytest.raises(Refusal):
            permission.check_participant(user, FIELD, group)
    with pytest.raises(Refusal):
        permission.check_participant("sita", "nonsense", None)
