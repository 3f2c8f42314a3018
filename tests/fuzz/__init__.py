"""What anybody on the network can send, sent by a machine that looks for what breaks: `make fuzz`, docs/adr/0020.

A target (`targets`) takes bytes and raises if anything comes of them but what is documented. The corpus beside it is
replayed by `make test`; what breaks one is added to it.
"""
