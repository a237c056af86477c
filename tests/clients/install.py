"""Installs every client of clients.toml in a folder of its own under .clients, once for each version."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FOLDER = HERE.parents[1] / ".clients"
CLIENTS: dict[str, dict[str, Any]] = tomllib.loads((HERE / "clients.toml").read_text())


def is_python(name: str) -> bool:
    return str(CLIENTS[name]["script"]).endswith(".py")


def is_installed(name: str) -> bool:
    stamp = FOLDER / name / "installed.json"
    return stamp.exists() and json.loads(stamp.read_text()) == CLIENTS[name]["install"]


def install(name: str) -> None:
    """The client is installed at its version."""
    if is_installed(name):
        return
    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    print(f"installing {name}", file=sys.stderr)
    wanted = CLIENTS[name]["install"]
    if is_python(name):
        run(folder, sys.executable, "-m", "venv", ".")
        run(folder, "bin/python", "-m", "pip", "install", "-qq", "--disable-pip-version-check", *wanted)
    else:
        (folder / "package.json").write_text('{"private": true}')
        run(folder, "npm", "install", "--no-audit", "--no-fund", "--silent", *wanted)
    (folder / "installed.json").write_text(json.dumps(wanted))


def run(folder: Path, *command: str) -> None:
    program = str(folder / command[0]) if command[0].startswith("bin/") else command[0]
    subprocess.run([program, *command[1:]], cwd=folder, check=True)


if __name__ == "__main__":
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(install, CLIENTS))
