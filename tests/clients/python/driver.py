"""The Python clients: the official one, kr8s, pykube-ng and lightkube, each with its defaults."""

import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from contract import NAMESPACE, main, pod, storm, storm_async

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

    return {"create": lambda: storm(create), "whoami": whoami}, version("kubernetes")


def kr8s():
    import asyncio

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

    actions = {"create": lambda: asyncio.run(storm_async(create)), "whoami": lambda: asyncio.run(whoami())}
    return actions, version("kr8s")


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
    import asyncio

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

    actions = {"create": lambda: asyncio.run(storm_async(create)), "whoami": lambda: asyncio.run(whoami())}
    return actions, version("lightkube")


main({"kubernetes": kubernetes, "kr8s": kr8s, "pykube-ng": pykube, "lightkube": lightkube})
