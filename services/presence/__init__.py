"""Presence turns lapsed names into departures.

Owns the clearing away of dead gateways: their seats, their downlinks. Must not know sockets or messages.
Talks to the directory only. Any number of copies may run; each step is safe to repeat.
"""
