"""Broadcasts as they are asked for: what does not even get on the way that nothing bounds."""

import pytest

from libs.wire import events
from libs.wire.codes import Code, Refusal
from libs.wire.frames import Origin, Sender
from services.gateway import broadcasts

_EVENT = events.EmergencyBroadcast("Flood", "Go to the hill.", "village", ["v1", "v2", "v1"])


def test_a_members_broadcast_goes_nowhere() -> None:
    """Else any app could fill the room that is kept for warnings."""
    with pytest.raises(Refusal) as refused:
        broadcasts.frame(_EVENT, Origin("g1", "s"), Sender("asha", "Asha", "member"))
    assert refused.value.code is Code.ROLE_REQUIRED


@pytest.mark.parametrize("role", sorted(events.MAY_WARN))
def test_who_may_warn_is_taken(role: str) -> None:
    """Each place once."""
    frame = broadcasts.frame(_EVENT, Origin("g1", "s"), Sender("asha", "Asha", role))
    assert frame.place_ids == ("v1", "v2")
