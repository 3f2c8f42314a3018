"""What tests share: clients of three kinds, the record of what they saw, and the checker of that record.

Must not know how the cluster is built: only PROTOCOL, as a client sees it.

    clients/       real clients: JavaScript, Python, and a socket driven by hand
    history/       what each device sent and received, and what of it breaks a promise
    mutants/       services that break a promise, for what must notice
    waiting.py     wait for a condition that nobody announces
"""
