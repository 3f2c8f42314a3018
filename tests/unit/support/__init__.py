"""The tests' own tools are tested too: a checker that finds nothing proves nothing."""
