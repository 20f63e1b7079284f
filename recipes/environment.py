"""Imported first by every recipe: says how to get in where the packages are not installed."""

import sys
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent

# python puts this folder first on the path, where evaluate.py would hide the package evaluate
sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() != HERE]

missing = [name for name in ("voicecommand", "hydra", "torch") if find_spec(name) is None]
if missing:
    root = HERE.parent if HERE.parent != Path.cwd() else ""
    into = f"cd {root}, run" if root else "run"
    sys.stderr.write(
        f"error: {sys.executable} has no package {missing[0]!r}: {into} `make setup`, then `. .venv/bin/activate`\n"
    )
    sys.exit(2)
