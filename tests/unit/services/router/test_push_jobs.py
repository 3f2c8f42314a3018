"""What a push says, and what becomes of one."""

import re

from hypothesis import given
from hypothesis import strategies as st

from services.router import push_jobs
from services.router.push_jobs import Fate, Job
from tests.unit.services.router.fakes import RAMA_SITA, message

_JOB = Job(push_jobs.of_messages([message(1)]), "sita", ("a", "b"))


def test_one_push_stands_for_all_of_a_conversation() -> None:
    """It says the newest; one emergency among them makes it urgent."""
    push = push_jobs.of_messages([message(1, type="emergency", content="The river!"), message(2, content="నమస్తే")])
    assert (push.title, push.body, push.is_urgent) == ("Rama", "నమస్తే", True)
    assert push.data == {"type": "new_message", "conversationId": RAMA_SITA, "messageId": message(2).id}
    assert push.collapse == push_jobs.of_messages([message(3)]).collapse


def test_what_is_secret_only_wakes_the_app() -> None:
    """A push goes through Google and lies on a screen: no content, no name, nothing of those beside it either."""
    for secret in (message(2, encryption_level="high_security"), message(2, is_anonymous=True, sender_id="anon-x")):
        push = push_jobs.of_messages([message(1, content="plain"), secret])
        assert (push.title, push.body, push.data) == ("", "", {"type": "sync"})
        assert RAMA_SITA not in push.collapse


def test_media_are_said_in_a_word() -> None:
    """And a long text in its beginning."""
    assert push_jobs.of_messages([message(1, type="voice", content="")]).body == "Voice message"
    assert len(push_jobs.of_messages([message(1, content="x" * 5000)]).body) == 120


@given(level=st.sampled_from(["village", "mandal", "district", "state"]), place=st.text(min_size=1, max_size=50))
def test_every_place_has_a_topic_of_its_own(level: str, place: str) -> None:
    """Of the characters that Firebase takes."""
    assert re.fullmatch(r"[a-zA-Z0-9-_.~%]+", push_jobs.topic(level, place))
    assert push_jobs.topic(level, place) != push_jobs.topic(level, place + "~")


def test_what_may_be_taken_later_is_tried_again_later_and_later() -> None:
    """Only for the tokens concerned; and not for ever."""
    job: Job | None = _JOB
    waits = []
    while job is not None:
        job = push_jobs.settled(job, [Fate.RETRY] if len(job.tokens) == 1 else [Fate.SENT, Fate.RETRY], 0)
        if job is not None:
            assert job.tokens == ("b",)
            waits.append(job.not_before_ms // 1000)
    assert waits == [2, 4, 8, 16, 32, 64, 128, 256, 512]


def test_what_was_sent_or_never_will_be_is_done() -> None:
    """Dead tokens too; a topic is tried again like a token."""
    assert push_jobs.settled(_JOB, [Fate.SENT, Fate.DEAD], 0) is None
    assert push_jobs.settled(_JOB, [Fate.REFUSED, Fate.SENT], 0) is None
    topical = Job(_JOB.push, topic="village-v1")
    assert push_jobs.settled(topical, [Fate.SENT], 0) is None
    again = push_jobs.settled(topical, [Fate.RETRY], 1000)
    assert again is not None
    assert (again.topic, again.not_before_ms) == ("village-v1", 3000)
