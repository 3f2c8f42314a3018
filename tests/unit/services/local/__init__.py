"""The local cluster, with a real broker and services that are not real."""
