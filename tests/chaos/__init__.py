"""Chaos: people write to each other while a fault comes every few seconds; one table says which promises were kept.

    python -m tests.chaos --seconds 600 --seed 1       or: make chaos SECONDS=600 SEED=1

Owns the schedule of faults, how each is done and undone, and the table. Must not know how the cluster works, only its
processes and addresses; what was promised, `tests.support.history` says.

    plan.py      Fault, draw: which faults come when, a pure function of the seed
    network.py   Network: every service behind a link of its own that can be cut, slowed or made to lose packets
    brokers.py   Brokers: a primary, its replica and who watches over them
    world.py     World: the cluster and all that can be done to it
    faults.py    carry_out: one fault, from its beginning to its end
    people.py    People: phones that come and go, and who writes to whom
    verdict.py   Verdict: from what was seen to the table
"""
