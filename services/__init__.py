"""The processes of the cluster. None of them imports another; they meet in `libs` and on Redis."""
