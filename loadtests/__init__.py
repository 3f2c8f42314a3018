"""Load on a cluster of one's own, and what it measured. Only ever against this machine."""
