"""Unit tests of presence."""
