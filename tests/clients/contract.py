"""What the drivers in Python share: the parameters, the pod and the report.

The harness sets NAMESPACE, PREFIX, COUNT and IN_FLIGHT in the environment, and KUBECONFIG or the
variables of a cluster. A driver prints one line of JSON.
"""

import asyncio
import json
import multiprocessing
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

NAMESPACE = os.environ.get("NAMESPACE", "default")
POD = os.environ.get("POD")  # The running pod of the action `streams`, …
COMMAND = ["sh", "-c", "echo out"]  # … what is run in it, …
PORT, PING = 80, b"ping"  # … and what its port sends back.
IN_FLIGHT = int(os.environ.get("IN_FLIGHT", "1"))


def pod(name):
    """A small pod. Quotas count its requests."""
    requests = {"cpu": "1m", "memory": "1Mi"}
    container = {
        "name": "main",
        "image": "registry.k8s.io/pause:3.10",
        "resources": {"requests": requests},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"containers": [container]},
    }


def storm(create):
    """Calls create(name) for each name and returns what the client was told.

    create returns the name of the stored pod.
    """
    outcomes = Outcomes()

    def one(name):
        with outcomes.of(name):
            outcomes.created.append(create(name))

    with ThreadPoolExecutor(IN_FLIGHT) as workers:
        list(workers.map(one, names()))
    return outcomes.report()


async def storm_async(create):
    """The same with a coroutine."""
    outcomes, free = Outcomes(), asyncio.Semaphore(IN_FLIGHT)

    async def one(name):
        async with free:
            with outcomes.of(name):
                outcomes.created.append(await create(name))

    await asyncio.gather(*map(one, names()))
    return outcomes.report()


def names():
    return [f"{os.environ['PREFIX']}-{i}" for i in range(int(os.environ["COUNT"]))]


class Outcomes:
    def __init__(self):
        self.created, self.failed, self.started = [], {}, time.monotonic()

    @contextmanager
    def of(self, name):
        try:
            yield
        except Exception as error:  # Whatever a client throws is an outcome.
            self.failed[name] = said(error)

    def report(self):
        seconds = time.monotonic() - self.started
        return {"created": self.created, "failed": self.failed, "seconds": seconds}


def said(error):
    """The type of an exception and its text, with those that caused it."""
    parts = []
    while error is not None:
        parts.append(f"{type(error).__name__}: {error}")
        error = error.__cause__ or error.__context__
    return " <- ".join(parts)


def main(drivers):
    """Runs `driver CLIENT ACTION`. drivers has for each client a function that returns its
    actions and its version."""
    client, action = sys.argv[1:]
    try:
        actions, version = drivers[client]()
        report = actions[action]()
    except Exception as error:
        report, version = {"error": said(error)}, None
    print(json.dumps({**report, "version": version}), flush=True)
    # Neither threads nor child processes of a client may keep the harness waiting.
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(0)
