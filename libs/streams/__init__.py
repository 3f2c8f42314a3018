"""Frames in and out of Redis Streams, and who may read a partition.

An inbound stream is a queue: its one reader (the router with the lease) starts at `0`, and trims what
it has acknowledged in the same fenced step, so what is in the stream is what is still to do. Must not
know what a frame means. Talks to the broker only.

    pace.py           when waiting for company pays
    group_commit.py   gather while one write is in flight
    producer.py       frames → entries of inbound streams
    consumer.py       entries of several streams, one blocking read
    leases.py         which partitions this router owns, with a fencing token each
"""
