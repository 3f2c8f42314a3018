"""Our cluster with as many sockets as this machine holds: what they cost, whether it lasts, and what a death does.

plan.py        how many, and what fits (pure)     works.py    hold, growth, endure, failover
figures.py     what is found                      moves.py    rolling, rebalance: gateways go and come
complaints.py  warnings in the logs, counted      stage.py    a cluster, its people, their phones
report.py      the page, goals and misses (pure)  __main__.py `make scale`
"""
