"""Damaged images of every format, read one after the other: no traceback, no hang, no memory, no other program.

    python -m tests.benchmarks.fuzz_images --count 10000 --seed 0

Prints the outcomes by format and what went wrong; exit status 1 where anything did. What went wrong is kept in the
folder of --keep.
"""

import argparse
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests import fuzzing


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=None, help="a folder for the files with which anything went wrong")
    arguments = parser.parse_args()
    outcomes: Counter[tuple[str, str]] = Counter()
    wrong: list[str] = []
    slowest, peak, began = (0.0, ""), 0, time.monotonic()
    watch = fuzzing.Watch()
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, data) in enumerate(fuzzing.files(Path(folder, "whole"), arguments.count, arguments.seed)):
            done = fuzzing.trial(name, data, Path(folder))
            ending, outcome, seconds = Path(name).suffix.lower(), done["outcome"], done["seconds"]
            slowest = max(slowest, (seconds, f"{number} {name}"))
            problems = [] if outcome in ("tensor", "error") else [outcome]
            problems += [f"{seconds:.1f} seconds"] if seconds > fuzzing.SECONDS else []
            problems += [f"{watch.memory / 1e9:.2f} GB"] if watch.memory > fuzzing.MEMORY else []
            problems += watch.programs
            outcomes[ending, "wrong" if problems else outcome] += 1
            if problems:
                wrong.append(f"{number} {name}: {'; '.join(problems)}")
                print(wrong[-1], flush=True)
                if arguments.keep:
                    arguments.keep.mkdir(parents=True, exist_ok=True)
                    (arguments.keep / f"{number}-{name}").write_bytes(data)
                watch.programs.clear()
                peak, watch.memory = max(peak, watch.memory), 0
            peak = max(peak, watch.memory)
    watch.open = False
    for ending in sorted({ending for ending, _ in outcomes}):
        counts = {kind: outcomes[ending, kind] for kind in ("tensor", "error", "wrong")}
        print(f"{ending:6} " + "  ".join(f"{kind} {count:5d}" for kind, count in counts.items()))
    print(
        f"{arguments.count:,} files, seed {arguments.seed}: {len(wrong)} wrong; slowest {slowest[0]:.1f} s "
        f"({slowest[1]}); most memory {peak / 1e9:.2f} GB; {time.monotonic() - began:.0f} s in all"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
