"""What all parts of the benchmark use: running commands, and removing only what is ours."""

import shutil
import subprocess
import sys

MARKER = ".larder-siblings-bench"
COMMANDS = {"build": ["build"], "test": ["test", "--no-run"]}


def fail(message):
    sys.exit(f"bench: {message}")


def sh(command, cwd=None, env=None):
    """Runs a command that is not measured; its output is shown only if it fails."""
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        fail(f"{' '.join(map(str, command))} failed in {cwd or '.'}:\n{done.stderr}{done.stdout}")
    return done.stdout


def git(repo, *args):
    who = ["-c", "user.name=bench", "-c", "user.email=bench@example.invalid", "-c", "init.defaultBranch=main", "-c", "gc.auto=0"]
    return sh(["git", *who, *args], cwd=repo)


def remove(work, path):
    """Removes what this benchmark made, and nothing else."""
    if not (work / MARKER).exists() or work not in path.parents:
        fail(f"will not remove {path}")
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)
