"""Unit tests of the load client and the comparison."""
