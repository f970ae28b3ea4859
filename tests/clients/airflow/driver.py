"""Airflow's KubernetesExecutor and KubernetesPodOperator: their own code, without a web server.

`executor` creates one pod after the other, as the scheduler's loop does by default,
`executor-async` creates them at once (async_pod_creation), `operator` is one task for each pod.
"""

import os
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from contract import IN_FLIGHT, NAMESPACE, Outcomes, main, names, said, storm

IMAGE = "registry.k8s.io/pause:3.10"
TEMPLATE = """\
apiVersion: v1
kind: Pod
metadata: {name: template}
spec:
  containers:
    - name: base
      image: registry.k8s.io/pause:3.10
      resources: {requests: {cpu: 1m, memory: 1Mi}}
"""

home = Path(tempfile.mkdtemp(prefix="airflow-"))
(home / "pod.yaml").write_text(TEMPLATE)
in_cluster = "KUBECONFIG" not in os.environ
os.environ |= {
    "AIRFLOW_HOME": str(home),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
    "AIRFLOW__KUBERNETES_EXECUTOR__NAMESPACE": NAMESPACE,
    "AIRFLOW__KUBERNETES_EXECUTOR__POD_TEMPLATE_FILE": str(home / "pod.yaml"),
    "AIRFLOW__KUBERNETES_EXECUTOR__IN_CLUSTER": str(in_cluster),
}
if not in_cluster:
    os.environ["AIRFLOW__KUBERNETES_EXECUTOR__CONFIG_FILE"] = os.environ["KUBECONFIG"]


def executor(concurrent):
    from multiprocessing import Manager

    from airflow.models.taskinstancekey import TaskInstanceKey
    from airflow.providers.cncf.kubernetes.executors.kubernetes_executor_types import KubernetesJob
    from airflow.providers.cncf.kubernetes.executors.kubernetes_executor_utils import (
        AirflowKubernetesScheduler,
    )
    from airflow.providers.cncf.kubernetes.kube_client import get_kube_client
    from airflow.providers.cncf.kubernetes.kube_config import KubeConfig

    client, queue = get_kube_client(), Manager().Queue()
    scheduler = AirflowKubernetesScheduler(KubeConfig(), queue, client, scheduler_job_id="1")

    def job(name):
        key = TaskInstanceKey("dag", name, "run", 1)
        return KubernetesJob(key, ["airflow", "tasks", "run", "dag", name, "run"], None, None)

    # The pod's name is random; its annotation names the task.
    def stored():
        pods = client.list_namespaced_pod(NAMESPACE, label_selector="kubernetes_executor=True").items
        return {pod.metadata.annotations["task_id"]: pod.metadata.name for pod in pods}

    def create():
        outcomes, acknowledged = Outcomes(), []
        if concurrent:
            for (_, error), name in zip(scheduler.run_next_batch([*map(job, names())]), names()):
                if error is None:
                    acknowledged.append(name)
                else:
                    outcomes.failed[name] = said(error)
        else:
            for name in names():
                with outcomes.of(name):
                    scheduler.run_next(job(name))
                    acknowledged.append(name)
        report = outcomes.report()
        pods = stored()
        return report | {"created": [pods.get(name, f"lost-{name}") for name in acknowledged]}

    def whoami():
        from kubernetes.client import AuthenticationV1Api

        review = AuthenticationV1Api(client.api_client).create_self_subject_review({})
        return {"user": review.status.user_info.username}

    return {"create": create, "whoami": whoami}, provider()


def operator():
    from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator

    def task(name):
        return KubernetesPodOperator(
            task_id=name,
            name=name,
            namespace=NAMESPACE,
            image=IMAGE,
            kubernetes_conn_id=None,
            in_cluster=in_cluster,
            config_file=os.environ.get("KUBECONFIG"),
            reattach_on_restart=False,
            container_resources={"requests": {"cpu": "1m", "memory": "1Mi"}},
        )

    def create(name):
        one = task(name)
        request = one.build_pod_request_obj()
        return one.get_or_create_pod(request, context={}).metadata.name

    def whoami():
        from kubernetes.client import AuthenticationV1Api

        api = AuthenticationV1Api(task("whoami").hook.api_client)
        return {"user": api.create_self_subject_review({}).status.user_info.username}

    return {"create": lambda: storm(create), "whoami": whoami}, provider()


def provider():
    packages = ("apache-airflow", "apache-airflow-providers-cncf-kubernetes", "kubernetes")
    return " ".join(f"{package} {version(package)}" for package in packages)


main(
    {
        "executor": lambda: executor(False),
        "executor-async": lambda: executor(True),
        "operator": operator,
    }
)
