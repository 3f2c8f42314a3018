"""`make fuzz SECONDS=60`: the time is shared among the targets; what breaks one is kept, and told how to repeat.

python -m tests.fuzz --seconds 60                     all targets
python -m tests.fuzz --seconds 60 --target websocket_bytes
python -m tests.fuzz --repeat tests/fuzz/corpus/websocket_bytes/crash-…
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

CORPUS: Final = Path(__file__).parent / "corpus"
TARGETS: Final = sorted(folder.name for folder in CORPUS.iterdir() if folder.is_dir())
_INPUT_BYTES: Final = 16_384
_HANGS_AFTER_S: Final = 20
# Of all memory; what one input may take is in `targets.watched`.
_MEMORY_MB: Final = 2000


def main() -> int:
    """Exit code 1 if anything broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=60, help="for all targets together")
    parser.add_argument("--target", choices=TARGETS, action="append", help="this one only; may be repeated")
    parser.add_argument("--repeat", type=Path, help="an input: its folder names its target")
    parser.add_argument("--engine", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.repeat is not None:
        _repeat(asked.repeat)
        return 0
    if asked.engine:
        return _engine(*asked.engine)
    chosen = asked.target or TARGETS
    seconds = max(1, asked.seconds // len(chosen))
    return 1 if [target for target in chosen if not _fuzz(target, seconds)] else 0


def _fuzz(target: str, seconds: int) -> bool:
    """Whether it held."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder)
        options = [
            f"-max_total_time={seconds}",
            f"-max_len={_INPUT_BYTES}",
            f"-timeout={_HANGS_AFTER_S}",
            f"-rss_limit_mb={_MEMORY_MB}",
            f"-artifact_prefix={CORPUS / target}/",
            "-print_final_stats=1",
            "-verbosity=1",
        ]
        command = [sys.executable, "-m", "tests.fuzz", "--engine", target, *options, str(found), str(CORPUS / target)]
        ended = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        new = len(list(found.iterdir()))
    runs = next((line.split()[-1] for line in ended.stderr.splitlines() if "number_of_executed_units" in line), "?")
    _say(f"{target:24} {runs:>9} inputs, {new} that went another way, {time.monotonic() - began:.0f} s")
    if ended.returncode == 0:
        return True
    kept = [line.split()[-1] for line in ended.stderr.splitlines() if "Test unit written to" in line]
    _say("\n".join(line for line in (ended.stdout + ended.stderr).splitlines() if not _is_chatter(line))[-4000:])
    for path in dict.fromkeys(kept):
        _say(f"BROKEN. To repeat: python -m tests.fuzz --repeat {Path(path).relative_to(CORPUS.parents[2])}")
    return False


def _is_chatter(line: str) -> bool:
    return line.startswith(("INFO:", "WARNING:", "#", "stat::", "NEW_FUNC", "MS: "))


def _repeat(path: Path) -> None:
    from tests.fuzz import targets  # noqa: PLC0415 - the engine imports it its own way

    targets.watched(targets.TARGETS[path.resolve().parent.name], path.read_bytes())


def _engine(target: str, *options: str) -> int:
    import atheris  # noqa: PLC0415 - only where there is time to fuzz

    with atheris.instrument_imports(include=["libs", "services"]):
        from tests.fuzz import targets  # noqa: PLC0415 - it is instrumented while it is imported

    taking = targets.TARGETS[target]

    def take(data: bytes) -> None:
        try:
            targets.watched(taking, data)
        except BaseException:
            broken = CORPUS / target / f"crash-{hashlib.sha256(data).hexdigest()[:12]}"
            broken.write_bytes(data)
            sys.stderr.write(f"Test unit written to {broken}\n")
            raise

    atheris.Setup([sys.argv[0], *options], take)
    atheris.Fuzz()
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
