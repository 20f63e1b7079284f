"""What the protection costs where nothing goes wrong: this tree against another, in turns.

As a program, it is one arm: `python cost.py JSON` trains once with the library that PYTHONPATH names, and prints
CPU-seconds as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

STEPS, SAVES = 40, 4


def measure(before: Path, now: Path, pairs: int, work: Path) -> dict[str, Any]:
    """Train in both trees in turns; every second pair begins with the other one.

    Args:
        before, now: checkouts of the repository.

    Returns:
        for each of `train` (without saving) and `save`: the figures of each arm in CPU-seconds, and the spread and
        mean of their ratios with its 95 % interval.
    """
    from measuring import note, ratios

    from voicecommand.compare.leaderboard import mean_over_seeds

    arms: dict[str, list[dict[str, float]]] = {"before": [], "now": []}
    places = {"before": before, "now": now}
    for number in range(pairs):
        for arm in ("before", "now") if number % 2 == 0 else ("now", "before"):
            arms[arm].append(run_arm(places[arm], work / f"cost-{arm}"))
        note(f"cost: pair {number + 1} of {pairs}")
    found: dict[str, Any] = {}
    for part in ("train", "save"):
        values = {arm: [one[part] for one in measured] for arm, measured in arms.items()}
        each = ratios(values["now"], values["before"])
        found[part] = {**values, "ratio": each, "mean": mean_over_seeds(each["values"])}
    return found


def run_arm(tree: Path, work: Path) -> dict[str, float]:
    import shutil

    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    variables = {**os.environ, "PYTHONPATH": str(tree / "src")}
    command = [sys.executable, __file__, json.dumps({"recipe": str(tree / "recipes/train.py"), "runs": str(work)})]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False, cwd=work)
    shutil.rmtree(work, ignore_errors=True)
    if done.returncode:
        raise SystemExit(f"the training in {tree} failed: {done.stderr[-500:]}")
    figures: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def main() -> None:
    """One arm."""
    job = json.loads(sys.argv[1])
    recipe = Path(job["recipe"])
    sys.path.insert(0, str(recipe.parent))
    from voicecommand.training.trainer import CommandTrainer

    seconds = {"train": 0.0, "save": 0.0}

    def timed(name: str, key: str, then: Any = None) -> None:
        real = getattr(CommandTrainer, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.process_time()
            result = real(*args, **kwargs)
            seconds[key] += time.process_time() - start
            if then is not None:
                then()
            return result

        setattr(CommandTrainer, name, call)

    def answer() -> None:
        sys.stdout.write(f"\n{json.dumps(seconds | {'train': seconds['train'] - seconds['save']})}\n")
        sys.stdout.flush()
        os._exit(0)  # evaluation and report are not part of it

    timed("_save_checkpoint", "save")
    timed("train", "train", answer)
    sys.argv = [str(recipe), "model=bert_scratch", "data=commands", f"runs={job['runs']}", "threads=1",
                f"training.max_steps={STEPS}", "training.eval_strategy=no", "training.load_best_model_at_end=false",
                "training.save_strategy=steps", f"training.save_steps={STEPS // SAVES}", "early_stopping=null",
                "training.report_to=none", "precision=fp32"]  # fmt: skip
    exec(compile(recipe.read_text(encoding="utf-8"), str(recipe), "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    main()
