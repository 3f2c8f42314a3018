"""Who is on which gateway and how they are seen, shared by all nodes.

A *seat* is (user, gateway). Seats are held by hashes over the users, and are good for as long as
their gateway is alive: one key to renew per gateway, none per user. A gateway that dies takes all its
seats with it at once; presence clears them away.

Who is shown in a seat, leaves the last one or is watched for the first time is put on a list of those to
be looked at; presence decides and announces, and everybody else reads what was announced.

    directory.py   seats: touch, drop, locate, reap      watchers.py   which gateways watch whom
    standing.py    how people are seen: read, choose, count

Must not know sockets, nor who is told what.
"""

from libs.directory.directory import Directory, Seat
from libs.directory.standing import Standing, Statistics
from libs.directory.watchers import Watchers

__all__ = ["Directory", "Seat", "Standing", "Statistics", "Watchers"]
