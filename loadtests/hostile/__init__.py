"""Others' messages while somebody attacks: one attack after another, each from a process of its own."""
