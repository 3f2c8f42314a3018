"""Tests of `libs.telemetry`."""
