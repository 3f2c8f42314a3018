"""Where records are kept: what every store raises while it cannot be reached, and SQLite's threads.

Must not know what is stored. Talks to files only.
"""


class StoreAway(Exception):
    """The store cannot be reached, or did not answer in time. Trying again later may work."""
