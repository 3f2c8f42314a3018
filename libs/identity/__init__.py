"""Who a client is: claims from a token that was checked, and the cluster's own resume tickets.

Must not know Firebase, sockets or the store.
"""

from libs.identity.claims import Claims
from libs.identity.tickets import Tickets

__all__ = ["Claims", "Tickets"]
