"""python -m tests.model: larger worlds than `make test` looks at, for some minutes; or one of one's own.

python -m tests.model                                  the worlds below, one after another
python -m tests.model --messages 2 --crashes 1 --outages 1 --states 5000000
python -m tests.model --lapses 1 --outages 1 --without FENCE_AT_THE_GATEWAY
"""

import argparse
import sys
import time

from tests.model.checker import check
from tests.model.world import Bounds, Without

LARGER = (
    Bounds(messages=2, crashes=1),
    Bounds(messages=2, lapses=1, confirms=False),
    Bounds(messages=2, resends=1, crashes=1, outages=1, has_reader=False),
    Bounds(messages=2, crashes=1, outages=1, confirms=False),
    Bounds(resends=1, lapses=1, outages=1, confirms=False),
    Bounds(lapses=1, outages=1),
    Bounds(wipes=1, outages=1, confirms=False),
    Bounds(messages=2, failovers=1, confirms=False),
    Bounds(replacements=1, crashes=1, confirms=False),
    Bounds(wipes=1),
)


def main() -> int:
    """Exit code 1 if a promise is broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__.partition("\n")[0])
    for field, default in Bounds()._asdict().items():
        if isinstance(default, bool):
            parser.add_argument(f"--{field.replace('_', '-')}", action=argparse.BooleanOptionalAction, default=default)
        else:
            parser.add_argument(f"--{field}", type=int, default=default)
    guards = [guard.name for guard in Without if guard.name]
    parser.add_argument("--without", choices=guards, help="a guard to take out")
    parser.add_argument("--states", type=int, default=5_000_000, help="look at no more than this")
    asked = vars(parser.parse_args())
    without, states = Without[asked.pop("without") or "NOTHING"], asked.pop("states")
    own = Bounds(**asked)
    worlds = LARGER if own == Bounds() and not without else (own,)
    is_broken = False
    for bounds in worlds:
        began = time.monotonic()
        verdict = check(bounds, without, states_max=states)
        is_broken = is_broken or bool(verdict.broken)
        told = ", ".join(f"{name} {value}" for name, value in bounds._asdict().items() if value)
        sys.stdout.write(f"{told}\n  {verdict}\n  {time.monotonic() - began:.1f} s\n")
        sys.stdout.flush()
    return 1 if is_broken else 0


if __name__ == "__main__":
    sys.exit(main())
