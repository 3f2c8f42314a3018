"""Unit tests: they mirror the tree."""
