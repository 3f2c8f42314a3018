"""What happened, and whether it may have.

Owns the record of what every device sent and received, and the checker that compares it with what
ARCHITECTURE promises. Must not know how a client connects, nor wait for anything.

    record.py      History: written by the clients as things happen
    checker.py     check: pure, from a History to a Report
    losses.py      promised: what is left of a History once what a broker took with it is left out
    report.py      Report: readable when a test fails
"""

from tests.support.history.checker import Expected, Message, check
from tests.support.history.losses import promised
from tests.support.history.record import History, Sent, Sighting, Status
from tests.support.history.report import Report

__all__ = ["Expected", "History", "Message", "Report", "Sent", "Sighting", "Status", "check", "promised"]
