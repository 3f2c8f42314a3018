"""Unit tests of the load tests: their pure parts, the load client, the comparison, and the links."""
