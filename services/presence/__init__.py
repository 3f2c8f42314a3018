"""Presence says who is here, and turns lapsed names into departures.

Owns what is announced of people, the record of when they were last seen, and the clearing away of dead
gateways: their seats, their downlinks. Must not know sockets or messages. Talks to the directory, to the
downlinks of gateways that watch somebody, and to a store of its own. Any number of copies may run, and
die; each step is safe to repeat.

    announcer.py   what became of whom, to those who watch      reaper.py    dead gateways
    cold.py        who is only in the store                     unsaved.py   last-seen times, on their way there
    lastseen.py    the store's contract                         sqlite.py    the store
"""
