"""Firestore from an event loop: documents, queries, commits, and what they cost.

`values` encodes what is written, `query` says what is asked, `client` does both: the one file that knows Google's
libraries. Must not know what is stored.
"""
