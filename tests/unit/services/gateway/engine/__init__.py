"""Unit tests of Engine.IO."""
