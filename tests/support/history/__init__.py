"""What happened, and whether it may have.

Owns the record of what every device sent and received, and the checker that compares it with what
ARCHITECTURE promises. Must not know how a client connects, nor wait for anything.

    record.py      History: written by the clients as things happen
    checker.py     check: pure, from a History to a Report
    report.py      Report: readable when a test fails
"""

from tests.support.history.checker import Expected, Message, check
from tests.support.history.record import History, Sent, Sighting, Status
from tests.support.history.report import Report

__all__ = ["Expected", "History", "Message", "Report", "Sent", "Sighting", "Status", "check"]
