"""Helm and kubectl, each with its defaults: one process for each release or pod.

Needs nothing but Python's standard library. PROGRAM is the executable.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from contract import NAMESPACE, main, pod, storm

CHART = Path(__file__).resolve().parent / "chart"


def run(*arguments, given=None):
    # Without a home, helm and kubectl keep their discovery caches here.
    environment = os.environ | {"HOME": CACHE}
    program = [os.environ["PROGRAM"], "--namespace", NAMESPACE]
    done = subprocess.run(
        [*program, *arguments], input=given, env=environment, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    return done.stdout


def helm():
    def create(name):
        run("install", name, str(CHART))
        return name

    def whoami():
        # Helm cannot ask. It may list releases only if the apiserver knows it.
        run("list")
        return {"allowed": True}

    return {"create": lambda: storm(create), "whoami": whoami}, run("version", "--short").strip()


def kubectl(*verb):
    def create(name):
        run(*verb, "-f", "-", given=json.dumps(pod(name)))
        return name

    def whoami():
        review = json.loads(run("auth", "whoami", "-o", "json"))
        return {"user": review["status"]["userInfo"]["username"]}

    version = json.loads(run("version", "--client", "-o", "json"))["clientVersion"]["gitVersion"]
    return {"create": lambda: storm(create), "whoami": whoami}, version


with tempfile.TemporaryDirectory() as CACHE:
    main(
        {
            "helm": helm,
            "kubectl-create": lambda: kubectl("create"),
            "kubectl-apply": lambda: kubectl("apply"),
            "kubectl-apply-server-side": lambda: kubectl("apply", "--server-side"),
        }
    )
