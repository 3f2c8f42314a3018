"""Unit tests of the streams, as far as they need no broker."""
