"""The contract: what clients say, what travels on Redis, how things are named and refused.

Owns the shapes and their encoding. Must not know a clock, a socket, Redis or the store; the
standard library and msgspec are all it imports. Talks to nobody.

    codes.py       every refusal: its code, whether to retry, its words
    names.py       conversation ids, message ids, partitions
    events.py      what a client sends
    payloads.py    what a client receives
    frames.py      what services send each other over Redis
    codec.py       frames to bytes and back, many to an entry
"""
