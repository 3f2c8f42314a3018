"""Services with one promise broken on purpose: what looks for faults must find these.

    python -m tests.support.mutants services.router NAME

runs a service after `break_it()` of the module `tests.support.mutants.NAME`, which replaces something in it. Where a
module needs to be told when to break, it reads `MUTANT_FILE`: broken while that file exists.
"""
