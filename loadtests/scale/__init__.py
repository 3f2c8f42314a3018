"""Our cluster with as many sockets as this machine holds: what they cost, whether it lasts, and what a death does.

plan.py        how many, and what fits (pure)     works.py    hold, growth, endure, failover
figures.py     what is found                      report.py   the page, goals and misses (pure)
complaints.py  warnings in the logs, counted      __main__.py `make scale`
"""
