"""Run a service with one promise broken."""

import runpy
import sys
from importlib import import_module

if __name__ == "__main__":
    service, name = sys.argv[1:3]
    sys.argv = [service]
    import_module(f"tests.support.mutants.{name}").break_it()
    runpy.run_module(service, run_name="__main__", alter_sys=True)
