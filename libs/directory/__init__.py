"""Who is on which gateway, shared by all nodes.

A *seat* is (user, gateway). Seats are held by hashes over the users, and are good for as long as
their gateway is alive: one key to renew per gateway, none per user. A gateway that dies takes all its
seats with it at once; presence clears them away. Must not know what a seat is for.
"""

from libs.directory.directory import Directory

__all__ = ["Directory"]
