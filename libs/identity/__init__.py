"""Who a client is: claims from a token that was checked, the cluster's own resume tickets, and seals that hide it.

Must not know sockets or the store. Firebase is known by the shape of its tokens alone.
"""

from libs.identity.claims import Claims
from libs.identity.envelopes import Envelopes
from libs.identity.seals import Seals, Unopenable
from libs.identity.tickets import Tickets

__all__ = ["Claims", "Envelopes", "Seals", "Tickets", "Unopenable"]
