"""Unit tests of claims and tickets."""
