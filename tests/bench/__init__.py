"""What the hot paths cost, each by itself: `make microbench`. No part of `make test`; nothing is asserted of times."""
