"""Signing in: by handshake, by event, by resume ticket; refused with a code; renewed; and ended in time.

One cluster serves the whole module; its patience is short.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any, Final

import aiohttp
import jwt
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import rsa

from services.local.issuer import AUDIENCE, ISSUER, Issuer
from services.local.keyring import Keyring
from services.router.sqlite import UserRow
from tests.support.clients import JsClients, RawClient
from tests.support.cluster import LiveCluster, live_cluster
from tests.support.history import History
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

_ACK: Final = 7
_SIGN_IN_TIMEOUT_S: Final = 2.5
_HOUR_MS: Final = 3_600_000
_IMPATIENT: Final = {
    "SIGN_IN_TIMEOUT_S": str(_SIGN_IN_TIMEOUT_S),
    "ANSWER_TIMEOUT_S": "1.5",
    "TOKEN_WARNING_S": "1",
    "TOKEN_GRACE_S": "1",
}


def _garbage(_: LiveCluster) -> str:
    return "no.token.atall"


def _not_ascii(_: LiveCluster) -> str:
    return "నమస్తే.😀.\0"


def _too_long(_: LiveCluster) -> str:
    return "x" * 10_000


def _nested(_: LiveCluster) -> str:
    return f"{_b64(b'[' * 5_000)}.e30.AAAA"


def _forged(_: LiveCluster) -> str:
    return Issuer(rsa.generate_private_key(public_exponent=65537, key_size=2048)).token("asha")


def _unsigned(_: LiveCluster) -> str:
    return f"{_part(alg='none', typ='JWT')}.{_part(**_claims())}."


def _signed_with_the_public_key(cluster: LiveCluster) -> str:
    signed = f"{_part(alg='HS256', typ='JWT')}.{_part(**_claims())}"
    public = Keyring(cluster.home).public_key_file().read_bytes()
    return f"{signed}.{_b64(hmac.digest(public, signed.encode(), hashlib.sha256))}"


def _for_another_audience(cluster: LiveCluster) -> str:
    return _signed(cluster, aud="another-project")


def _by_another_issuer(cluster: LiveCluster) -> str:
    return _signed(cluster, iss="https://securetoken.google.com/another-project")


def _without_an_end(cluster: LiveCluster) -> str:
    return _signed(cluster, exp=None)


def _of_no_id(cluster: LiveCluster) -> str:
    return _signed(cluster, sub="two words")


def _with_a_changed_role(cluster: LiveCluster) -> str:
    head, claims, mac = cluster.token("asha").split(".")
    changed = json.loads(base64.urlsafe_b64decode(claims + "==")) | {"role": "admin"}
    return f"{head}.{_part(**changed)}.{mac}"


def _expired(cluster: LiveCluster) -> str:
    return cluster.token("asha", ttl_s=-60)


def _revoked(cluster: LiveCluster) -> str:
    return cluster.token("revoked")


def _of_nobody(cluster: LiveCluster) -> str:
    return cluster.token("nobody")


def _of_someone_disabled(cluster: LiveCluster) -> str:
    return cluster.token("disabled")


_BAD_TOKENS: Final[dict[Callable[[LiveCluster], str], str]] = {
    _garbage: "token_invalid",
    _not_ascii: "token_invalid",
    _too_long: "token_invalid",
    _nested: "token_invalid",
    _forged: "token_invalid",
    _unsigned: "token_invalid",
    _signed_with_the_public_key: "token_invalid",
    _for_another_audience: "token_invalid",
    _by_another_issuer: "token_invalid",
    _without_an_end: "token_invalid",
    _of_no_id: "token_invalid",
    _with_a_changed_role: "token_invalid",
    _expired: "token_expired",
    _revoked: "token_revoked",
    _of_nobody: "user_not_found",
    _of_someone_disabled: "user_disabled",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveCluster]:
    """One gateway and one router, with little patience."""
    home = tmp_path_factory.mktemp("cluster")
    async with live_cluster(home, gateways=1, routers=1, environment=_IMPATIENT) as cluster:
        await cluster.people(
            [
                UserRow(id="asha", name="Asha Rao", role="coordinator"),
                UserRow(id="bala", name="బాల"),
                UserRow(id="revoked", name="Revoked", valid_after_ms=_now_ms() + _HOUR_MS),
                UserRow(id="disabled", name="Disabled", disabled=True),
            ]
        )
        yield cluster


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def uncomplaining(cluster: LiveCluster) -> AsyncIterator[None]:
    """Nothing a client does at the door is an error of ours."""
    logged = len(cluster.logs())
    yield
    lines = cluster.logs()[logged:].splitlines()
    assert [line for line in lines if '"level": "error"' in line or '"critical"' in line or "Traceback" in line] == []


# --- how one gets in ---------------------------------------------------------------------------------


async def test_a_token_in_the_handshake_signs_in(cluster: LiveCluster) -> None:
    """`auth_success` follows the connection, with everything a client needs to know about itself."""
    async with await RawClient.connect(cluster.urls[0], {"token": cluster.token("bala")}) as client:
        connected = json.loads((await client.expect("40"))[2:])
        success = await client.expect_event("auth_success")
    ticket, server_time = success.pop("resumeTicket"), success.pop("serverTime")
    assert success == {
        "connectionId": connected["sid"],
        "userId": "bala",
        "userName": "బాల",
        "userRole": "member",
    }
    assert isinstance(ticket, str)
    assert abs(server_time - _now_ms()) < _HOUR_MS
    assert [frame for frame in client.frames if "auth_required" in str(frame)] == []


async def test_an_event_signs_in(cluster: LiveCluster) -> None:
    """Without a token the server asks for one; `authenticate` brings it, with what the device says of itself."""
    async with await RawClient.connect(cluster.urls[0]) as client:
        required = await client.expect_event("auth_required")
        assert required == {"timeoutMs": int(_SIGN_IN_TIMEOUT_S * 1000)}
        offered = {"token": cluster.token("asha"), "deviceInfo": {"model": "Redmi 9A"}}
        await client.send_event("authenticate", offered, ack=_ACK)
        assert await client.expect_answer(_ACK) == {"ok": True}
        success = await client.expect_event("auth_success")
        assert (success["userName"], success["userRole"]) == ("Asha Rao", "coordinator")


async def test_a_client_that_says_nothing_is_asked_and_then_closed(cluster: LiveCluster) -> None:
    """`auth_required`, `auth_timeout`, the packet that tells a client not to come back by itself, and the close."""
    async with await RawClient.connect(cluster.urls[0], {"token": ""}) as client:
        await client.expect_event("auth_required")
        assert (await client.expect_event("auth_timeout"))["message"]
        await client.expect("41")
        assert await client.wait_closed() == aiohttp.WSCloseCode.OK


async def test_a_connection_that_joins_no_namespace_is_closed(cluster: LiveCluster) -> None:
    """In the same time: with 1012, for it is no refusal."""
    async with await RawClient.connect(cluster.urls[0], handshake=False) as client:
        assert await client.wait_closed() == aiohttp.WSCloseCode.SERVICE_RESTART


async def test_who_has_signed_in_is_not_timed_out(cluster: LiveCluster) -> None:
    """The time for signing in is over for those who have."""
    async with (
        await _signed_in(cluster, {"token": cluster.token("bala")}) as early,
        await RawClient.connect(cluster.urls[0]) as late,
    ):
        await late.send_event("authenticate", {"token": cluster.token("asha")})
        await late.expect_event("auth_success")
        async with await RawClient.connect(cluster.urls[0]) as stranger:
            await stranger.wait_closed()
        await _assert_alive(early)
        await _assert_alive(late)


async def test_nothing_but_authenticate_is_taken_before(cluster: LiveCluster) -> None:
    """Any other event is refused with `not_authenticated`, and one may sign in all the same."""
    async with await RawClient.connect(cluster.urls[0]) as client:
        for number, event in enumerate(("heartbeat", "sync", "join_group", "no_such_event"), start=1):
            await client.send_event(event, {"groupId": "g"}, ack=number)
            error = (await client.expect_answer(number))["error"]
            assert (error["code"], error["retryable"]) == ("not_authenticated", False)
            said = await client.expect_event("error")
            assert (said["code"], said["event"]) == ("not_authenticated", event)
        await client.send_event("send_message", {"clientId": "c", "recipientId": "asha", "content": "x"})
        said = await client.expect_event("message_error")
        assert (said["code"], said["clientId"]) == ("not_authenticated", "c")
        await client.send_event("authenticate", {"token": cluster.token("bala")})
        await client.expect_event("auth_success")


async def test_a_role_in_the_token_wins_over_the_documents(cluster: LiveCluster) -> None:
    """Up and down: the claim is what was decided last, and what one may do follows from it."""
    warning = {"clientId": "fire", "recipientId": "asha", "content": "x", "type": "emergency"}
    async with await RawClient.connect(cluster.urls[0], {"token": cluster.token("bala", role="coordinator")}) as client:
        assert (await client.expect_event("auth_success"))["userRole"] == "coordinator"
        await client.send_event("send_message", warning, ack=_ACK)
        assert (await client.expect_answer(_ACK))["ok"]
    async with await RawClient.connect(cluster.urls[0], {"token": cluster.token("asha", role="member")}) as client:
        assert (await client.expect_event("auth_success"))["userRole"] == "member"
        await client.send_event("send_message", warning | {"recipientId": "bala"}, ack=_ACK)
        assert (await client.expect_answer(_ACK))["error"]["code"] == "role_required"


# --- how one is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "code"), _BAD_TOKENS.items(), ids=[make.__name__ for make in _BAD_TOKENS])
async def test_a_token_that_is_not_good_is_refused_both_ways(
    cluster: LiveCluster, make: Callable[[LiveCluster], str], code: str
) -> None:
    """In the handshake with `connect_error`, in `authenticate` with `auth_failed` and the close."""
    token = make(cluster)
    async with await RawClient.connect(cluster.urls[0], {"token": token}) as client:
        refused = json.loads((await client.expect("44"))[2:])
        assert refused["message"]
        assert refused["data"] == {"code": code, "retryable": False}
    await _assert_refused(cluster, {"token": token}, code)


async def test_a_sign_in_that_offers_nothing_is_refused(cluster: LiveCluster) -> None:
    """`token_missing`: no token, an empty one, or null."""
    for offered in ({}, {"token": ""}, {"token": None, "resumeTicket": None}):
        await _assert_refused(cluster, offered, "token_missing")


async def test_a_token_of_the_wrong_type_is_refused(cluster: LiveCluster) -> None:
    """A number, an object or a truth where the text should be: `token_invalid`."""
    for token in (5, {"token": "x"}, True, ["x"]):
        async with await RawClient.connect(cluster.urls[0], {"token": token}) as client:
            assert json.loads((await client.expect("44"))[2:])["data"]["code"] == "token_invalid"


async def test_unmodified_clients_hear_why_they_are_refused(cluster: LiveCluster) -> None:
    """The JavaScript client has the code in `connect_error`, or in `auth_failed`, and does not come back by itself."""
    async with JsClients(History()) as js:
        shaken = await js.open("shaken", cluster.urls[0], {"token": _expired(cluster)}, wait=False)
        error = (await shaken.wait_for("connect_error")).data
        assert error["data"] == {"code": "token_expired", "retryable": False}
        assert error["final"]
        await shaken.set_auth({"token": cluster.token("asha")})
        await shaken.connect_again()
        await shaken.wait_for("auth_success")
        late = await js.open("late", cluster.urls[0])
        await late.emit_nowait("authenticate", {"token": _expired(cluster)})
        assert (await late.wait_for("auth_failed")).data["code"] == "token_expired"
        gone = (await late.wait_for("disconnect")).data
        assert (gone["reason"], gone["final"]) == ("io server disconnect", True)


# --- resume tickets ----------------------------------------------------------------------------------


async def test_a_resume_ticket_signs_in(cluster: LiveCluster) -> None:
    """In the handshake and by event, with the role that the token had; each sign-in brings another."""
    ticket = await _ticket(cluster, cluster.token("bala", role="admin"))
    async with await RawClient.connect(cluster.urls[0], {"resumeTicket": ticket}) as client:
        success = await client.expect_event("auth_success")
        assert (success["userId"], success["userRole"]) == ("bala", "admin")
    async with await RawClient.connect(cluster.urls[0]) as client:
        await client.send_event("authenticate", {"resumeTicket": success["resumeTicket"]})
        assert (await client.expect_event("auth_success"))["userRole"] == "admin"


async def test_a_ticket_that_was_tampered_with_is_refused(cluster: LiveCluster) -> None:
    """One letter, a cut, an addition, a token in its place: `token_invalid`."""
    ticket = await _ticket(cluster, cluster.token("bala"))
    middle = len(ticket) // 2
    other = "A" if ticket[middle] != "A" else "B"
    for bad in (
        ticket[:middle] + other + ticket[middle + 1 :],
        ticket[:-4],
        "AAAA" + ticket,
        ticket * 9,
        "టికెట్",
        "x",
        cluster.token("bala"),
    ):
        async with await RawClient.connect(cluster.urls[0], {"resumeTicket": bad}) as client:
            assert json.loads((await client.expect("44"))[2:])["data"]["code"] == "token_invalid"
    async with await RawClient.connect(cluster.urls[0], {"token": ticket}) as client:
        assert json.loads((await client.expect("44"))[2:])["data"]["code"] == "token_invalid"


@pytest.mark.parametrize(
    ("row", "code"),
    [
        (UserRow(id="fallen", name="Fallen", disabled=True), "user_disabled"),
        (UserRow(id="fallen", name="Fallen", valid_after_ms=_HOUR_MS * 10**6), "token_revoked"),
    ],
    ids=["disabled", "revoked"],
)
async def test_a_ticket_dies_with_its_users_welcome(cluster: LiveCluster, row: UserRow, code: str) -> None:
    """A user who is disabled, or whose sign-ins are revoked, is refused at the next sign-in with a ticket."""
    await cluster.people([UserRow(id="fallen", name="Fallen", disabled=False, valid_after_ms=0)])
    ticket = await _ticket(cluster, cluster.token("fallen"))
    await cluster.people([row])
    async with await RawClient.connect(cluster.urls[0], {"resumeTicket": ticket}) as client:
        assert json.loads((await client.expect("44"))[2:])["data"]["code"] == code
    await _assert_refused(cluster, {"resumeTicket": ticket}, code)


async def test_a_ticket_does_not_outlive_its_token(cluster: LiveCluster) -> None:
    """Nor does one that was got with a ticket."""
    ticket = await _ticket(cluster, cluster.token("bala", ttl_s=3))
    async with await _signed_in(cluster, {"resumeTicket": ticket}):
        pass

    async def refusal() -> str | None:
        nonlocal ticket
        async with await RawClient.connect(cluster.urls[0], {"resumeTicket": ticket}) as client:
            if (said := await client.expect("44", "40")).startswith("44"):
                return str(json.loads(said[2:])["data"]["code"])
            ticket = (await client.expect_event("auth_success"))["resumeTicket"]
            return None

    assert await until(refusal, 10, "a refusal of the ticket") == "token_expired"


# --- on a live socket --------------------------------------------------------------------------------


async def test_a_token_that_ends_is_announced_and_then_closes_its_socket(cluster: LiveCluster) -> None:
    """`token_expiring` before, `auth_failed` after the grace; who signed in anew in between stays."""
    ends = cluster.token("bala", ttl_s=2)
    expires_at = jwt.decode(ends, options={"verify_signature": False})["exp"] * 1000
    async with (
        await _signed_in(cluster, {"token": ends}) as careless,
        await _signed_in(cluster, {"token": ends}) as careful,
    ):
        assert await careful.expect_event("token_expiring") == {"expiresAt": expires_at}
        await careful.send_event("authenticate", {"token": cluster.token("bala")}, ack=_ACK)
        assert await careful.expect_answer(_ACK) == {"ok": True}
        assert (await careful.expect_event("auth_success"))["userId"] == "bala"
        assert await careless.expect_event("token_expiring") == {"expiresAt": expires_at}
        failed = await careless.expect_event("auth_failed")
        assert (failed["code"], failed["retryable"]) == ("token_expired", False)
        await careless.expect("41")
        await careless.wait_closed()
        assert _now_ms() >= expires_at + 1000
        await _assert_alive(careful)
        assert [frame for frame in careful.frames if "auth_failed" in str(frame)] == []


async def test_another_users_token_on_a_live_socket_is_refused(cluster: LiveCluster) -> None:
    """Changing users takes a new connection; so does showing a bad token."""
    for token, code in ((cluster.token("asha"), "token_invalid"), (_expired(cluster), "token_expired")):
        async with await _signed_in(cluster, {"token": cluster.token("bala")}) as client:
            await client.send_event("authenticate", {"token": token}, ack=_ACK)
            assert (await client.expect_answer(_ACK))["error"]["code"] == code
            assert (await client.expect_event("auth_failed"))["code"] == code
            await client.expect("41")
            await client.wait_closed()


async def test_a_second_sign_in_beside_the_first_is_refused(cluster: LiveCluster) -> None:
    """Two `authenticate` in one breath: one is taken, the other is answered, the socket lives on."""
    async with await RawClient.connect(cluster.urls[0]) as client:
        cluster.processes.kill("r1", signal.SIGSTOP)  # so that the first is still under way
        try:
            await client.send_event("authenticate", {"token": cluster.token("asha")}, ack=1)
            await client.send_event("authenticate", {"token": cluster.token("bala")}, ack=2)
            assert (await client.expect_answer(2))["error"]["code"] == "not_authenticated"
            assert (await client.expect_event("error"))["event"] == "authenticate"
        finally:
            cluster.processes.kill("r1", signal.SIGCONT)
        assert (await client.expect_answer(1))["ok"]
        assert (await client.expect_event("auth_success"))["userId"] == "asha"
        await _assert_alive(client)


# --- while nobody can say yes ------------------------------------------------------------------------


async def test_who_leaves_while_signing_in_leaves_no_seat_behind(cluster: LiveCluster) -> None:
    """A polling client that is gone before the router answered is not online for ever."""
    sessions = await cluster.metric("g1", "talowa_gateway_sessions")
    base = f"{cluster.urls[0]}/socket.io/?EIO=4&transport=polling"
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as tasks:
        async with session.get(base) as response:
            url = f"{base}&sid={json.loads((await response.text())[1:])['sid']}"

        async def post(body: str) -> None:
            async with session.post(url, data=body) as response:
                await response.read()

        cluster.processes.kill("r1", signal.SIGSTOP)
        try:
            tasks.create_task(post("40" + json.dumps({"token": cluster.token("bala")})))

            async def is_joining() -> bool:
                return await cluster.metric("g1", "talowa_gateway_sessions") == sessions + 1

            await until(is_joining, 10, "the session to join")
            await post("1")
        finally:
            cluster.processes.kill("r1", signal.SIGCONT)

    async def is_gone() -> bool:
        return await cluster.metric("g1", "talowa_gateway_sessions") == sessions

    await until(is_gone, 10, "the session to be gone")


async def test_signing_in_while_no_router_lives_may_be_tried_again(cluster: LiveCluster) -> None:
    """`unavailable`, retryable, in both ways; and when a router is back, the same token is good."""
    auth = {"token": cluster.token("asha")}
    live = await _signed_in(cluster, auth)
    await cluster.processes.stop("r1")
    try:
        async with live, AsyncExitStack() as stack:
            await live.send_event("authenticate", auth, ack=_ACK)
            shaken = await stack.enter_async_context(await RawClient.connect(cluster.urls[0], auth))
            late = await stack.enter_async_context(await RawClient.connect(cluster.urls[0]))
            await late.send_event("authenticate", auth, ack=_ACK)
            refused = json.loads((await shaken.expect("44"))[2:])
            assert refused["data"] == {"code": "unavailable", "retryable": True}
            error = (await late.expect_answer(_ACK))["error"]
            assert (error["code"], error["retryable"]) == ("unavailable", True)
            failed = await late.expect_event("auth_failed")
            assert (failed["code"], failed["retryable"]) == ("unavailable", True)
            assert await late.wait_closed() == aiohttp.WSCloseCode.SERVICE_RESTART
            # Who is in stays in: a renewal that nobody can answer now ends no socket.
            assert (await live.expect_answer(_ACK))["error"]["code"] == "unavailable"
            assert (await live.expect_event("error"))["event"] == "authenticate"
            await live.send_event("heartbeat", {}, ack=_ACK)
            assert (await live.expect_answer(_ACK))["ok"]
    finally:
        await cluster.processes.start("r1")

    async def is_let_in() -> bool:
        async with await RawClient.connect(cluster.urls[0], auth) as client:
            return (await client.expect("40", "44")).startswith("40")

    await until(is_let_in, 30, "a sign-in that succeeds")


# --- the means ---------------------------------------------------------------------------------------


async def _signed_in(cluster: LiveCluster, auth: dict[str, Any]) -> RawClient:
    client = await RawClient.connect(cluster.urls[0], auth)
    await client.expect_event("auth_success")
    return client


async def _ticket(cluster: LiveCluster, token: str) -> str:
    async with await RawClient.connect(cluster.urls[0], {"token": token}) as client:
        return str((await client.expect_event("auth_success"))["resumeTicket"])


async def _assert_refused(cluster: LiveCluster, offered: dict[str, Any], code: str) -> None:
    """`authenticate` is answered, `auth_failed` follows, then the packet that is final, and the close."""
    async with await RawClient.connect(cluster.urls[0]) as client:
        await client.send_event("authenticate", offered, ack=_ACK)
        error = (await client.expect_answer(_ACK))["error"]
        assert (error["code"], error["retryable"]) == (code, False)
        failed = await client.expect_event("auth_failed")
        assert failed == {"code": code, "message": error["message"], "retryable": False}
        await client.expect("41")
        assert await client.wait_closed() == aiohttp.WSCloseCode.OK


async def _assert_alive(client: RawClient) -> None:
    await client.send_event("heartbeat", {}, ack=99)
    assert (await client.expect_answer(99))["ok"]


def _claims(**changed: Any) -> dict[str, Any]:
    now_s = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "asha", "auth_time": now_s, "iat": now_s, "exp": now_s + 3600}
    return {name: value for name, value in (claims | changed).items() if value is not None}


def _signed(cluster: LiveCluster, **changed: Any) -> str:
    return jwt.encode(_claims(**changed), Keyring(cluster.home).signing_key(), algorithm="RS256")


def _part(**fields: Any) -> str:
    return _b64(json.dumps(fields).encode())


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
