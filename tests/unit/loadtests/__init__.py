"""Unit tests of the load tests: their pure parts, and the links."""
