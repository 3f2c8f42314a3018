"""The checker finds every violation that is put into a clean history, and none in a clean one."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.wire import names
from tests.support.history import History, Message, Report, check, promised

DEVICES = {"a1": "asha", "a2": "asha", "b1": "bala", "c1": "chitra"}
PAIR = names.direct("asha", "bala")
VILLAGE = names.group("village")
EXPECTED = {PAIR: ("a1", "a2", "b1"), VILLAGE: tuple(DEVICES)}


class Server:
    """A server that keeps every promise, as far as a History can tell."""

    def __init__(self) -> None:
        self.history = History(users=dict(DEVICES))
        self._last_seq = dict.fromkeys(EXPECTED, 0)
        self._clients = 0

    def accept(self, device: str, conversation_id: str, *, tries: int = 1, status: str = "sent") -> dict[str, Any]:
        """`device` sends, unanswered but for the last of its tries."""
        self._clients += 1
        self._last_seq[conversation_id] += 1
        user, client_id = DEVICES[device], f"c{self._clients}"
        message = {
            "id": names.message_id(user, client_id, conversation_id),
            "seq": self._last_seq[conversation_id],
            "conversationId": conversation_id,
            "senderId": user,
            "clientId": client_id,
            "type": "text",
        }
        for _ in range(tries):
            sent = self.history.record_send(device, {"conversationId": conversation_id, "clientId": client_id})
        self.history.record_answer(sent, {"ok": True, "status": status, **_place(message)})
        return message

    def deliver(self, device: str, message: dict[str, Any]) -> None:
        self.history.record_event(device, "new_message", message)

    def page(self, device: str, messages: list[dict[str, Any]]) -> None:
        self.history.record_event(device, "offline_messages", {"messages": messages, "hasMore": False})

    def tell(self, device: str, message: dict[str, Any], status: str) -> None:
        body = {**_place(message), "clientId": message["clientId"], "status": status}
        self.history.record_event(device, "message_delivery_status", body)


def _place(message: dict[str, Any]) -> dict[str, Any]:
    return {"messageId": message["id"], "seq": message["seq"], "conversationId": message["conversationId"]}


@st.composite
def clean_histories(draw: st.DrawFn) -> History:
    """Some messages, each sent once or more often, seen by everyone in order, some of them again."""
    server = Server()
    messages: list[tuple[str, dict[str, Any]]] = []
    for _ in range(draw(st.integers(2, 12))):
        conversation_id = draw(st.sampled_from(sorted(EXPECTED)))
        device = draw(st.sampled_from(EXPECTED[conversation_id]))
        status = draw(st.sampled_from(["queued", "sent"]))
        message = server.accept(device, conversation_id, tries=draw(st.integers(1, 3)), status=status)
        messages.append((device, message))
    for device in draw(st.permutations(sorted(DEVICES))):
        due = [m for sender, m in messages if device in EXPECTED[m["conversationId"]] and device != sender]
        for number, message in enumerate(due):
            if draw(st.booleans()):
                server.deliver(device, message)
            else:
                server.page(device, due[draw(st.integers(0, number)) : number + 1])
            if draw(st.booleans()):
                server.deliver(device, draw(st.sampled_from(due[: number + 1])))
    for device, message in messages:
        for status in ("sent", "sent", "delivered", "delivered", "read"):
            if draw(st.booleans()):
                server.tell(device, message, status)
    return server.history


def found(report: Report) -> set[str]:
    """The kinds of violation that were found."""
    return {kind for kind, some in report.violations.items() if some}


@given(clean_histories())
def test_a_clean_history_has_no_violation(history: History) -> None:
    """Repeats, redeliveries, pages that overlap and several tries are all as promised."""
    report = check(history, EXPECTED)
    assert report.ok, report
    assert report.messages == len({sent.client_id for sent in history.sent})


@given(clean_histories())
def test_checking_changes_nothing(history: History) -> None:
    """The checker is pure: the history is the same after it, and the report the same again."""
    before = deepcopy(history)
    first = check(history, EXPECTED)
    assert (history.sent, history.sightings, history.statuses) == (before.sent, before.sightings, before.statuses)
    assert check(history, EXPECTED) == first


@given(clean_histories(), st.data())
def test_a_message_that_a_device_never_saw_is_lost(history: History, data: st.DataObject) -> None:
    """Take every sighting of one message from one device: exactly that is reported."""
    victim = data.draw(st.sampled_from(history.sightings))
    key = (victim.device, victim.message_id)
    history.sightings = [one for one in history.sightings if (one.device, one.message_id) != key]
    report = check(history, EXPECTED)
    assert found(report) == {"lost"}
    assert len(report.lost) == 1
    assert victim.device in report.lost[0]
    assert victim.message_id in report.lost[0]


@given(clean_histories(), st.data())
def test_a_message_that_became_two_is_doubled(history: History, data: st.DataObject) -> None:
    """A sighting of the same (sender, clientId) under another id and in a place of its own."""
    one = data.draw(st.sampled_from(history.sightings))
    top = max(other.seq for other in history.sightings if other.conversation_id == one.conversation_id)
    top = max([top, *(s.answer["seq"] for s in history.sent if s.answer and _is_in(s.answer, one.conversation_id))])
    history.sightings.append(replace(one, message_id="another", seq=top + 1, via="new_message", index=10**6))
    assert found(check(history, EXPECTED)) == {"doubled"}


@given(clean_histories(), st.data())
def test_a_message_with_two_seqs_is_doubled(history: History, data: st.DataObject) -> None:
    """The same id comes again under the next free seq."""
    one = data.draw(st.sampled_from(history.sightings))
    top = max(s.answer["seq"] for s in history.sent if s.answer and _is_in(s.answer, one.conversation_id))
    history.sightings.append(replace(one, seq=top + 1, index=10**6))
    assert found(check(history, EXPECTED)) == {"doubled"}


@given(clean_histories(), st.data())
def test_a_seq_given_to_two_messages_is_doubled(history: History, data: st.DataObject) -> None:
    """Somebody else's message turns up in the place of another, on a device that saw nothing before."""
    one = data.draw(st.sampled_from(history.sightings))
    history.users["d1"] = "bala"
    history.sightings.append(replace(one, device="d1", message_id="another", client_id="another", index=10**6))
    assert found(check(history, EXPECTED)) == {"doubled"}


@given(clean_histories(), st.data())
def test_a_seq_that_nobody_saw_is_a_gap(history: History, data: st.DataObject) -> None:
    """Move everything from some seq on up by one: the place left free is reported."""
    one = data.draw(st.sampled_from(history.sightings))

    def moved(conversation_id: str, seq: int) -> int:
        return seq + (conversation_id == one.conversation_id and seq >= one.seq)

    history.sightings = [replace(s, seq=moved(s.conversation_id, s.seq)) for s in history.sightings]
    history.statuses = [replace(s, seq=moved(s.conversation_id, s.seq)) for s in history.statuses]
    for sent in history.sent:
        if sent.answer:
            sent.answer = {**sent.answer, "seq": moved(sent.answer["conversationId"], sent.answer["seq"])}
    report = check(history, EXPECTED)
    assert found(report) == {"gaps"}
    assert f"#{one.seq}" in report.gaps[0]


@given(clean_histories(), st.data())
def test_a_status_that_goes_back_is_found(history: History, data: st.DataObject) -> None:
    """After `read` of a message that was answered, anything less is a step back."""
    sent = data.draw(st.sampled_from([sent for sent in history.sent if sent.answer]))
    assert sent.answer is not None
    body = {**{name: sent.answer[name] for name in ("messageId", "seq", "conversationId")}, "clientId": sent.client_id}
    history.record_event(sent.device, "message_delivery_status", {**body, "status": "read"})
    assert check(history, EXPECTED).ok
    status = data.draw(st.sampled_from(["queued", "sent", "delivered", "failed"]))
    history.record_event(sent.device, "message_delivery_status", {**body, "status": status})
    assert found(check(history, EXPECTED)) == {"went back"}


@given(st.permutations(range(6)).filter(lambda order: list(order) != sorted(order)), st.booleans())
def test_messages_in_another_order_are_out_of_order(order: list[int], in_pages: bool) -> None:
    """Any order but the rising one is found, live and in pages."""
    server = Server()
    messages = [server.accept("a1", PAIR) for _ in order]
    for number in order:
        if in_pages:
            server.page("b1", [messages[number]])
        else:
            server.deliver("b1", messages[number])
    assert found(check(server.history, {PAIR: ("b1",)})) == {"out of order"}


def test_what_came_before_may_come_again_in_any_order() -> None:
    """Only the first sighting counts: a page after reconnecting may bring old messages again."""
    server = Server()
    messages = [server.accept("a1", PAIR) for _ in range(4)]
    for message in (*messages, *reversed(messages)):
        server.deliver("b1", message)
    report = check(server.history, {PAIR: ("b1",)})
    assert report.ok, report
    assert report.redeliveries == 4


def test_history_that_was_asked_for_is_in_no_order() -> None:
    """Leafing back through a conversation sees late what was early, and what is pushed then is no news."""
    server = Server()
    messages = [server.accept("a1", PAIR) for _ in range(4)]
    server.deliver("b1", messages[3])
    for page in (messages[2:], messages[:2]):
        body = {"conversationId": PAIR, "messages": page, "hasMore": True}
        server.history.record_event("b1", "conversation_history", body)
    server.deliver("b1", messages[0])
    report = check(server.history, {PAIR: ("b1",)})
    assert report.ok, report


def test_an_emergency_may_overtake_in_pages_but_not_live() -> None:
    """`offline_messages` brings emergencies before the rest; `new_message` does not."""
    server = Server()
    plain, urgent = server.accept("a1", PAIR), server.accept("a1", PAIR)
    urgent["type"] = "emergency"
    server.page("b1", [urgent, plain])
    server.deliver("a2", urgent)
    server.deliver("a2", plain)
    report = check(server.history, {PAIR: ("a2", "b1")})
    assert found(report) == {"out of order"}
    assert [text[:2] for text in report.out_of_order] == ["a2"]


@pytest.mark.parametrize(
    ("status", "signs_in", "is_fine"), [("queued", True, True), ("queued", False, False), ("sent", True, False)]
)
def test_what_was_queued_before_a_device_signed_in_may_come_behind_what_was_live(
    status: str, signs_in: bool, is_fine: bool
) -> None:
    """It is due once the store has it; whoever was there when it was said has no such excuse."""
    server = Server()
    first = server.accept("a1", PAIR, status=status)
    second = server.accept("a1", PAIR, status="sent")
    if signs_in:
        server.history.record_event("b1", "auth_success", {"userId": "bala"})
    for message in (second, first):
        server.deliver("b1", message)
    assert bool(check(server.history, {PAIR: ("b1",)}).out_of_order) is not is_fine


def test_what_was_only_queued_when_the_broker_forgot_is_not_promised() -> None:
    """Nor its place; what somebody was told to be `sent` is, however early that was."""
    server = Server()
    queued, saved = server.accept("a1", PAIR, status="queued"), server.accept("a1", PAIR, status="queued")
    server.tell("a1", saved, "sent")
    everything, nobody = promised(server.history, [])
    assert everything is server.history
    assert not nobody
    kept, outside = promised(server.history, [1 << 60])
    assert outside == {queued["id"]}
    assert [text.split()[-1] for text in check(kept, {PAIR: ("b1",)}).lost] == [f"{saved['id']})"]
    assert promised(server.history, [0])[1] == set()


def test_a_device_may_meet_its_own_message_late() -> None:
    """`sync` brings a device what it sent itself, after what others wrote since."""
    server = Server()
    own, other = server.accept("a1", PAIR), server.accept("b1", PAIR)
    server.deliver("a1", other)
    server.page("a1", [own])
    server.page("a1", [{**own, "senderId": "pseudonym"}])
    assert not check(server.history, {PAIR: ("a1",)}).out_of_order


def test_a_message_told_of_in_a_status_only_must_not_be_lost() -> None:
    """Whoever asked for no acknowledgement is told `sent` by event, and that is a promise too."""
    server = Server()
    message = server.accept("a1", PAIR)
    server.history.sent[0].answer = None
    assert check(server.history, {PAIR: ("b1",)}).unanswered == ("asha 'c1'",)
    server.tell("a1", message, "sent")
    report = check(server.history, {PAIR: ("b1",)})
    assert found(report) == {"lost"}
    assert report.unanswered == ()


def test_a_message_sent_again_after_it_was_read_is_answered_as_before() -> None:
    """The answer to a repeated send says `sent`, and that takes nothing back."""
    server = Server()
    message = server.accept("a1", PAIR)
    server.deliver("b1", message)
    server.tell("a1", message, "read")
    again = server.history.record_send("a1", {"conversationId": PAIR, "clientId": message["clientId"]})
    server.history.record_answer(again, {"ok": True, "status": "sent", **_place(message)})
    report = check(server.history, {PAIR: ("b1",)})
    assert report.ok, report
    assert report.messages == 1


def test_a_refusal_is_no_promise() -> None:
    """What was refused need not arrive; refused once and accepted later, it must."""
    server = Server()
    refused = {"ok": False, "error": {"code": "unavailable", "message": "", "retryable": True}}
    server.history.record_answer(server.history.record_send("a1", {"recipientId": "bala", "clientId": "no"}), refused)
    server.history.record_answer(server.history.record_send("a1", {"recipientId": "bala", "clientId": "c1"}), refused)
    server.deliver("b1", server.accept("a1", PAIR))
    report = check(server.history, {PAIR: ("b1",)})
    assert report.ok, report
    assert report.refused == ("asha 'no'",)


def test_a_direct_message_on_a_stranger_s_device_is_a_stray() -> None:
    """The conversation's name says who may see it."""
    server = Server()
    message = server.accept("a1", PAIR)
    server.deliver("b1", message)
    server.deliver("c1", message)
    assert found(check(server.history, {PAIR: ("b1",)})) == {"strays"}


def test_a_rule_may_say_who_should_have_seen_each_message() -> None:
    """Who joined later owes nothing for what was before."""
    server = Server()
    early, late = server.accept("a1", VILLAGE), server.accept("a1", VILLAGE)
    server.deliver("b1", early)
    server.deliver("b1", late)
    server.deliver("c1", late)

    def members(message: Message) -> tuple[str, ...]:
        return ("b1",) if message.seq == 1 else ("b1", "c1")

    assert check(server.history, members).ok
    assert found(check(server.history, {VILLAGE: ("b1", "c1")})) == {"lost"}


def test_a_forgotten_conversation_is_an_error_of_the_test() -> None:
    """An expectation that leaves out a conversation would prove less than it seems to."""
    server = Server()
    server.accept("a1", VILLAGE)
    with pytest.raises(ValueError, match=VILLAGE):
        check(server.history, {PAIR: ("b1",)})


@pytest.mark.parametrize(
    "spoil",
    [
        lambda history: history.record_event("b1", "new_message", {"id": "x"}),
        lambda history: history.record_event("b1", "new_message", None),
        lambda history: history.record_event("b1", "offline_messages", {"messages": [{}]}),
        lambda history: history.record_event("b1", "offline_messages", []),
        lambda history: history.record_event("b1", "message_delivery_status", {"messageId": "x", "seq": "1"}),
        lambda history: history.record_event("b1", "auth_success", {}),
        lambda history: history.record_answer(history.record_send("b1", {}), None),
        lambda history: history.record_answer(history.record_send("b1", {}), {"ok": True, "seq": 1}),
    ],
)
def test_what_protocol_does_not_know_is_a_finding(spoil: Callable[[History], None]) -> None:
    """An event or an answer without its fields is reported, not passed over."""
    history = History()
    spoil(history)
    assert found(check(history, {})) == {"malformed"}


def test_a_status_of_an_unknown_name_is_a_finding() -> None:
    """There are five, and a client switches on them."""
    server = Server()
    message = server.accept("a1", PAIR, status="done")
    server.deliver("b1", message)
    server.tell("a1", message, "gone")
    report = check(server.history, {PAIR: ("b1",)})
    assert found(report) == {"malformed"}
    assert len(report.malformed) == 2


def test_signing_in_tells_whose_a_device_is() -> None:
    """Two devices of one user that send under the same clientId sent one message."""
    history = History()
    for device in ("x1", "x2"):
        history.record_event(device, "auth_success", {"userId": "asha"})
        history.record_send(device, {"metadata": {"clientMessageId": "same"}, "recipientId": "bala"})
    assert check(history, {}).unanswered == ("asha 'same'",)


def test_a_report_is_readable() -> None:
    """A table with a line for each kind, its count, and the first findings."""
    text = str(Report(lost=tuple(f"b1 never saw {n}" for n in range(12)), messages=12))
    assert "12 messages accepted" in text
    assert "lost             12" in text
    assert "b1 never saw 0" in text
    assert "… and 2 more" in text
    assert "b1 never saw 11" not in text


def _is_in(answer: dict[str, Any], conversation_id: str) -> bool:
    return bool(answer["conversationId"] == conversation_id)
