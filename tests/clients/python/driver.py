"""The Python clients: the official one, kr8s, pykube-ng and lightkube, each with its defaults."""

import asyncio
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from contract import COMMAND, NAMESPACE, PING, POD, PORT, main, pod, storm, storm_async

REVIEW = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}


def kubernetes():
    from kubernetes import client, config

    config.load_config()
    core, authentication = client.CoreV1Api(), client.AuthenticationV1Api()

    def create(name):
        return core.create_namespaced_pod(NAMESPACE, pod(name)).metadata.name

    def whoami():
        review = authentication.create_self_subject_review(REVIEW)
        return {"user": review.status.user_info.username}

    def streams():
        from kubernetes.stream import portforward, stream
        from kubernetes.watch import Watch

        event = next(Watch().stream(core.list_namespaced_pod, NAMESPACE))
        log = core.read_namespaced_pod_log(POD, NAMESPACE, follow=True, _preload_content=False)
        said = {"stdout": True, "stderr": True, "stdin": False, "tty": False}
        output = stream(
            core.connect_get_namespaced_pod_exec, POD, NAMESPACE, command=COMMAND, **said
        )
        forward = portforward(
            core.connect_get_namespaced_pod_portforward, POD, NAMESPACE, ports=str(PORT)
        )
        socket = forward.socket(PORT)
        socket.setblocking(True)
        socket.sendall(PING)
        return {
            "watch": event["object"].metadata.name,
            "log": next(log.stream(decode_content=False)).decode(),
            "exec": output,
            "forward": socket.recv(len(PING)).decode(),
        }

    actions = {"create": lambda: storm(create), "whoami": whoami, "streams": streams}
    return actions, version("kubernetes")


def kr8s():
    import kr8s.asyncio
    from kr8s.asyncio.objects import Pod

    # Threads that share the synchronous API break each other's connections, so this is the other.
    async def create(name):
        stored = await Pod(pod(name), api=await kr8s.asyncio.api())
        await stored.create()
        return stored.name

    async def whoami():
        api = await kr8s.asyncio.api()
        where = {"base": "/apis", "version": "authentication.k8s.io/v1", "url": "selfsubjectreviews"}
        async with api.call_api("POST", **where, json=REVIEW) as answer:
            return {"user": answer.json()["status"]["userInfo"]["username"]}

    async def streams():
        api = await kr8s.asyncio.api()
        async for _, seen in api.watch("pods", namespace=NAMESPACE):
            break
        stored = await Pod.get(POD, namespace=NAMESPACE, api=api)
        async for line in stored.logs(follow=True):
            break
        done = await stored.exec(COMMAND)
        async with stored.portforward(PORT) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(PING)
            echo = await reader.readexactly(len(PING))
            writer.close()
        return {
            "watch": seen.name,
            "log": line,
            "exec": done.stdout.decode(),
            "forward": echo.decode(),
        }

    coroutines = {"create": lambda: storm_async(create), "whoami": whoami, "streams": streams}
    return in_a_loop(coroutines), version("kr8s")


def pykube():
    import pykube

    api = pykube.HTTPClient(pykube.KubeConfig.from_env())

    def create(name):
        stored = pykube.Pod(api, pod(name))
        stored.create()
        return stored.name

    def whoami():
        answer = api.post(version="authentication.k8s.io/v1", url="selfsubjectreviews", json=REVIEW)
        api.raise_for_status(answer)
        return {"user": answer.json()["status"]["userInfo"]["username"]}

    return {"create": lambda: storm(create), "whoami": whoami}, version("pykube-ng")


def lightkube():
    from lightkube import AsyncClient
    from lightkube.resources.authentication_v1 import SelfSubjectReview
    from lightkube.resources.core_v1 import Pod

    # With threads, its decoder crashes the interpreter (msgspec), so this is the asynchronous API.
    async def create(name):
        return (await client().create(Pod.from_dict(pod(name)))).metadata.name

    async def whoami():
        return {"user": (await client().create(SelfSubjectReview())).status.userInfo.username}

    @cache
    def client():
        return AsyncClient()

    async def streams():
        async for _, seen in client().watch(Pod, namespace=NAMESPACE):
            break
        async for line in client().log(POD, namespace=NAMESPACE, follow=True):
            break
        return {"watch": seen.metadata.name, "log": line}

    coroutines = {"create": lambda: storm_async(create), "whoami": whoami, "streams": streams}
    return in_a_loop(coroutines), version("lightkube")


def in_a_loop(coroutines):
    """Actions of coroutines."""
    return {name: lambda run=run: asyncio.run(run()) for name, run in coroutines.items()}


main({"kubernetes": kubernetes, "kr8s": kr8s, "pykube-ng": pykube, "lightkube": lightkube})
