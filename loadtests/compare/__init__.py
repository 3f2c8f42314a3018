"""Our cluster and other servers of Socket.IO, driven by the same client, in turn, on the same work.

systems.py   what is compared: processes, and how one signs in      stock.py, node/   the others' servers
works.py     what they do, and what of it is measured               goals.py          what ours is to reach
report.py    the results as Markdown                                __main__.py       `make bench`
"""
