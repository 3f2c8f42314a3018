"""The tests: unit, contract, cluster, bench, and what they share in `support`."""
