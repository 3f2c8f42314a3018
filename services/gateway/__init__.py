"""Gateways hold the sockets and nothing else: any may die at any moment.

Owns sign-in, the sessions connected here, and what is on its way to each socket. Must not know who
should receive a message, or the store. Talks to routers through Redis only: frames out on inbound
streams (`uplink.py`), frames in on its own downlink (`downlink.py`).
"""
