"""People for the load test: who lives where, when each writes, what their phones do, and whether all arrived.

Owns what a simulated person is and the books about them. Must not know the server's insides, locust, or how a
load test is started: `loadtests.locustfile` plays the people, `loadtests.load` sets the stage. Talks to gateways
only, as phones do. Deciding (`village`, `pace`, `letters`, `ledger`, `summary`) is pure; `phone` does.
"""
