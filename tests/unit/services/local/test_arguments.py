"""Wrong arguments say what to do."""

import pytest

from services.local.arguments import parse


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "say what to do: up, token"),
        (["dance"], "invalid choice: 'dance'"),
        (["token"], "name a user, as in: talowa token asha"),
        (["token", "--count", "5"], "--count and --prefix go together"),
        (["token", "--prefix", "p"], "--count and --prefix go together"),
        (["token", "--count", "0", "--prefix", "p"], "'0' is no whole number from 1"),
        (["token", "asha", "--ttl", "soon"], "'soon' is no whole number"),
        (["token", "asha", "--role", "boss"], "invalid choice: 'boss'"),
        (["token", "a:b"], "'a:b' is no id"),
        (["import"], "FILE.json"),
        (["import-firestore"], "PROJECT"),
        (["import-firestore", "../p"], "no id of a project, such as"),
        (["import-firestore", "talowa-1", "--database", "a/b"], "no id of a database, such as"),
        (["import-firestore", "talowa-1", "--owed-days", "-1"], "--owed-days"),
        (["chat"], "USER"),
        (["chat", "asha", "--to", "ravi", "--group", "g"], "not allowed with"),
        (["chat", "asha", "--url", "localhost"], "no URL of a gateway"),
        (["broadcast"], "say where and what, as in: talowa broadcast --village v12"),
        (["broadcast", "--village", "v1", "title"], "say where and what"),
        (["broadcast", "title", "text"], "say where and what"),
        (["broadcast", "--village", "v1", "--state", "s", "title", "text"], "not allowed with"),
        (["broadcast", "--tally", "x", "title"], "--tally goes alone"),
        (["broadcast", "--village", "v1", "--priority", "extreme", "t", "t"], "invalid choice: 'extreme'"),
        (["up", "now"], "unrecognized arguments: now"),
    ],
)
def test_wrong_arguments_say_what_to_do(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is wrong, then where to read on; the code is 2."""
    with pytest.raises(SystemExit) as leaving:
        parse(arguments)
    said = capsys.readouterr().err
    assert leaving.value.code == 2
    assert words in said
    assert "--help" in said


@pytest.mark.parametrize(
    "command",
    [
        "up",
        "token",
        "import",
        "import-firestore",
        "chat",
        "status",
        "stop",
        "start",
        "revoke",
        "broadcast",
        "trace",
        "ledger",
        "admin-token",
    ],
)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It is worth reading: more than a list of options."""
    with pytest.raises(SystemExit) as leaving:
        parse([command, "--help"])
    assert leaving.value.code == 0
    assert len(capsys.readouterr().out) > 200


def test_a_broadcast_may_name_several_places() -> None:
    """Of one level; its words come after, or before."""
    given = parse(["broadcast", "--village", "v1", "--village", "v2", "Flood", "Go."])
    assert (given.village, given.mandal, given.title, given.text, given.priority) == (
        ["v1", "v2"],
        [],
        "Flood",
        "Go.",
        "high",
    )


def test_many_users_can_be_made_at_once() -> None:
    """Named users and counted ones together."""
    given = parse(["token", "asha", "--count", "3", "--prefix", "load-"])
    assert (given.users, given.count, given.prefix, given.ttl) == (["asha"], 3, "load-", 3600)
