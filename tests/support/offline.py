"""A fresh process with nothing set, that writes down what it does besides computing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import detcam

WATCHING = """
import os, sys
deeds, allowed = [], {allowed!r}
BAD = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "socket.connect",
       "socket.getaddrinfo", "socket.gethostby", "socket.sendto", "urllib.Request")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
def hook(event, arguments):
    if event.startswith(BAD):
        deeds.append(f"{{event}} {{arguments[:2]!r}}"[:300])
    elif event == "open" and isinstance(arguments[0], (str, bytes)) and isinstance(arguments[2], int):
        if arguments[2] & WRITES and not os.path.realpath(os.fsdecode(arguments[0])).startswith(tuple(allowed)):
            deeds.append(f"wrote {{arguments[0]!r}}")
    elif event in ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.truncate", "shutil.rmtree"):
        if not os.path.realpath(os.fsdecode(arguments[0])).startswith(tuple(allowed)):
            deeds.append(f"{{event}} {{arguments[0]!r}}")
sys.addaudithook(hook)
"""
REPORTING = """
import json
sys.__stdout__.write("\\n" + json.dumps({"deeds": deeds, "told": told}))
"""


def run_apart(folder, program, seconds=500):
    """What a program did, in a process that has no settings and a home of its own.

    Args:
        folder: holds its home and its output, ``out``, which is its working directory; all else is not to be touched.
        program: Python; it leaves what it has to tell in ``told``.
        seconds: after which it is ended.

    Returns:
        ``deeds``: processes, connections, and files changed elsewhere; ``told``.
    """
    home, out, temporary = (folder / name for name in ("home", "out", "temporary"))
    for made in (home, out, temporary):
        made.mkdir(exist_ok=True)
    caches = [".config/Ultralytics", ".config/matplotlib", ".cache/matplotlib", ".config", ".cache"]
    allowed = [os.path.realpath(place) for place in (out, temporary, *(home / name for name in caches))]
    code = WATCHING.format(allowed=[*allowed, os.devnull]) + "told = None\n" + program + REPORTING
    environment = {
        "HOME": str(home), "TMPDIR": str(temporary), "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(detcam.__file__).parents[1]),
    }  # fmt: skip
    ran = subprocess.run(
        [sys.executable, "-B", "-c", code], env=environment, cwd=out, capture_output=True, text=True, timeout=seconds
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(ran.stdout.splitlines()[-1])
