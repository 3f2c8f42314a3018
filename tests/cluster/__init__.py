"""The cluster as its users meet it: real processes, real clients, real signals."""
