"""Routers decide who gets a frame and make it durable.

Owns order, membership, fan-out, receipts and what waits for someone away. Must not know sockets or
tokens. Talks to gateways through Redis only (inbound streams in, downlink streams out), to the store
through `store.Store`, and to the directory for who is where.

Open `delivery.py` first: it is the story of a message.
"""
