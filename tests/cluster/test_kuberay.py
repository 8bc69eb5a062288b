"""KubeRay's files. They have never been applied: no Kubernetes was at hand.

What Kubernetes itself defines is checked against its schemas; KubeRay's own fields against the list below, written down
from its API reference of v1.7.0:
https://github.com/ray-project/kuberay/blob/97509c3a7216cf3440af381646560a1885afb53b/docs/reference/api.md
"""

import re

import kubernetes_validate
import pytest
import yaml

from tests.cluster.support import ROOT, VERSION, locked, objects

FOLDER = ROOT / "cluster" / "kuberay"
FIELDS = {
    "RayCluster": {"apiVersion", "kind", "metadata", "spec"},
    "RayJob": {"apiVersion", "kind", "metadata", "spec"},
    "RayClusterSpec": {
        *("upgradeStrategy", "authOptions", "suspend", "managedBy", "autoscalerOptions", "headServiceAnnotations"),
        *("enableInTreeAutoscaling", "gcsFaultToleranceOptions", "historyServerOptions", "networkPolicy", "tlsOptions"),
        *("headGroupSpec", "rayVersion", "workerGroupSpecs"),
    },
    "RayJobSpec": {
        *("activeDeadlineSeconds", "backoffLimit", "rayClusterSpec", "submitterPodTemplate", "metadata", "suspend"),
        *("clusterSelector", "submitterConfig", "managedBy", "deletionStrategy", "entrypoint", "runtimeEnvYAML"),
        *("jobId", "submissionMode", "entrypointResources", "entrypointNumCpus", "entrypointNumGpus"),
        *("ttlSecondsAfterFinished", "preRunningDeadlineSeconds", "shutdownAfterJobFinishes"),
    },
    "AuthOptions": {"enableK8sTokenAuth", "secretName", "mode"},
    "AutoscalerOptions": {
        *("resources", "image", "imagePullPolicy", "securityContext", "idleTimeoutSeconds", "upscalingMode", "version"),
        *("env", "envFrom", "volumeMounts", "command", "args"),
    },
    "GcsFaultToleranceOptions": {
        *("backend", "redisUsername", "redisPassword", "externalStorageNamespace", "redisAddress", "storage"),
    },
    "RedisCredential": {"valueFrom", "value"},
    "HeadGroupSpec": {
        *("template", "headService", "enableIngress", "ingressOptions", "resources", "labels", "rayStartParams"),
        "serviceType",
    },
    "WorkerGroupSpec": {
        *("suspend", "groupName", "replicas", "minReplicas", "maxReplicas", "idleTimeoutSeconds", "priority"),
        *("resources", "labels", "rayStartParams", "template", "scaleStrategy", "numOfHosts"),
    },
}
CHOICES = {
    "mode": {"disabled", "token"},
    "upscalingMode": {"Default", "Aggressive", "Conservative"},
    "version": {"v1", "v2"},
    "submissionMode": {"K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"},
}
KUBERNETES = kubernetes_validate.latest_version()


def parts(kind, value):
    """An object and those in it that KubeRay defines, each with its kind."""
    yield kind, value
    inner = {
        "spec": f"{kind}Spec",
        "rayClusterSpec": "RayClusterSpec",
        "authOptions": "AuthOptions",
        "autoscalerOptions": "AutoscalerOptions",
        "gcsFaultToleranceOptions": "GcsFaultToleranceOptions",
        "redisPassword": "RedisCredential",
        "headGroupSpec": "HeadGroupSpec",
    }
    for name, found in value.items():
        if name in inner:
            yield from parts(inner[name], found)
    for group in value.get("workerGroupSpecs", []):
        yield "WorkerGroupSpec", group


def unknown(document):
    """Fields that KubeRay doesn't know, and values that it refuses."""
    return [
        f"{kind}.{name}: {value}"
        for kind, found in parts(document["kind"], document)
        for name, value in found.items()
        if name not in FIELDS[kind] or (name in CHOICES and value not in CHOICES[name])
    ]


def documents():
    return {f"{path.stem} {each['kind']}": each for path in sorted(FOLDER.glob("*.yaml")) for each in objects(path)}


def rays():
    return {name: each for name, each in documents().items() if each["apiVersion"] == "ray.io/v1"}


def cluster(document):
    return document["spec"].get("rayClusterSpec", document["spec"])


def groups():
    """Head and worker groups by where they stand."""
    return {
        f"{name} {group.get('groupName', 'head')}": group
        for name, each in rays().items()
        for group in (cluster(each)["headGroupSpec"], *cluster(each)["workerGroupSpecs"])
    }


@pytest.mark.parametrize("name", rays())
def test_kuberay_knows_every_field(name):
    assert unknown(rays()[name]) == []


def test_a_field_or_value_that_kuberay_does_not_know_is_found():
    one = rays()["raycluster RayCluster"]
    cluster(one)["authOptions"] |= {"mode": "password", "secret": "x"}
    cluster(one)["workerGroupSpecs"][0]["min"] = 1
    assert unknown(one) == ["AuthOptions.mode: password", "AuthOptions.secret: x", "WorkerGroupSpec.min: 1"]


@pytest.mark.parametrize("name", sorted(documents().keys() - rays().keys()))
def test_kubernetes_accepts_its_own_objects(name):
    kubernetes_validate.validate(documents()[name], KUBERNETES, strict=True)


def pod_template(template):
    return {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}, "template": template}


@pytest.mark.parametrize("where", groups())
def test_kubernetes_accepts_the_pod_templates(where):
    template = pod_template(groups()[where]["template"])
    kubernetes_validate.validate(template, KUBERNETES, strict=True)
    template["template"]["spec"]["containers"][0]["imagine"] = 1
    with pytest.raises(kubernetes_validate.ValidationError, match="imagine"):
        kubernetes_validate.validate(template, KUBERNETES, strict=True)


@pytest.mark.parametrize("name", rays())
def test_kubernetes_accepts_what_kuberay_hands_on(name):
    """The autoscaler's container and the variable with Redis' password."""
    spec = cluster(rays()[name])
    options = {key: spec["autoscalerOptions"][key] for key in ("resources", "securityContext")}
    password = spec.get("gcsFaultToleranceOptions", {}).get("redisPassword")
    env = [{"name": "REDIS_PASSWORD", **password}] if password else []
    template = {"spec": {"containers": [{"name": "x", "env": env, **options}]}}
    kubernetes_validate.validate(pod_template(template), KUBERNETES, strict=True)


@pytest.mark.parametrize("where", groups())
def test_pods_run_our_image_without_privileges_and_copy_secrets_to_mode_0600(where):
    spec = groups()[where]["template"]["spec"]
    image = f"/i2idist:{VERSION}-{'gpu' if where.endswith('gpu') else 'cpu'}"
    assert spec["securityContext"]["runAsNonRoot"]
    for container in (*spec["initContainers"], *spec["containers"]):
        assert container["image"].endswith(image)
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    copy = spec["initContainers"][0]["command"][-1]
    assert copy.count("install -m 0600 ") == copy.count("install ")
    given = {item["key"] for volume in spec["volumes"] for item in volume.get("secret", {}).get("items", [])}
    assert {f"/given/{key}" for key in given} == set(re.findall(r"/given/\S+", copy))
    assert {volume["name"] for volume in spec["volumes"] if "emptyDir" in volume} == {"secrets", "mlflow"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray's own modules
@pytest.mark.parametrize("where", groups())
def test_ray_knows_the_start_parameters(where):
    from ray.scripts.scripts import start

    known = {option.lstrip("-") for each in start.params for option in each.opts}
    assert groups()[where]["rayStartParams"].keys() <= known


@pytest.mark.parametrize("name", rays())
def test_the_head_asks_for_a_token_and_the_cluster_grows(name):
    spec = cluster(rays()[name])
    assert spec["authOptions"] == {"mode": "token", "secretName": "i2idist"}
    assert spec["rayVersion"] == locked()["ray"]
    assert spec["enableInTreeAutoscaling"]
    for group in spec["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] < group["maxReplicas"]
        assert group["template"]["spec"]["restartPolicy"] == "Never", "which Ray's autoscaler v2 needs"


def test_the_lasting_cluster_survives_its_head():
    spec = cluster(rays()["raycluster RayCluster"])
    service = documents()["redis Service"]
    address = f"redis://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    assert spec["gcsFaultToleranceOptions"]["redisAddress"] == address


def test_the_job_s_nodes_are_the_cluster_s():
    ours, theirs = (cluster(rays()[name]) for name in ("rayjob RayJob", "raycluster RayCluster"))
    same = ("rayVersion", "authOptions", "enableInTreeAutoscaling", "autoscalerOptions", "headGroupSpec")
    assert {key: ours[key] for key in same} == {key: theirs[key] for key in same}
    assert ours["workerGroupSpecs"] == theirs["workerGroupSpecs"][:1]


def test_the_job_is_one_that_comes_back():
    spec = rays()["rayjob RayJob"]["spec"]
    assert spec["backoffLimit"] > 0
    assert spec["shutdownAfterJobFinishes"]
    assert " --run " in spec["entrypoint"]


def test_the_job_s_training_can_be_described():
    from i2idist.experiment import read_experiment

    words = rays()["rayjob RayJob"]["spec"]["entrypoint"].split()
    assert words[:2] == ["i2idist", "train"]
    overrides = dict(word.split("=", 1) for word in words[3:] if "=" in word)
    read = read_experiment(words[2], {key: yaml.safe_load(value) for key, value in overrides.items()})
    pod = groups()["rayjob RayJob cpu"]["template"]["spec"]["containers"][0]
    assert read.resources.threads_per_worker == int(pod["resources"]["limits"]["cpu"]), "a worker fills a pod"


def serving():
    return {each["kind"]: each for each in objects(FOLDER / "serving.yaml")}


def test_registered_models_are_served_by_options_that_mlflow_knows():
    from mlflow.models.cli import serve

    (container,) = serving()["Deployment"]["spec"]["template"]["spec"]["containers"]
    words = container["command"] + container["args"]
    assert words[:3] == ["mlflow", "models", "serve"]
    given = serve.make_context("serve", words[3:]).params
    (port,) = container["ports"]
    assert (given["host"], given["port"], given["env_manager"]) == ("0.0.0.0", port["containerPort"], "local")
    assert re.fullmatch(r"models:/[\w-]+@champion", given["model_uri"])
    probes = [container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")]
    assert probes == [{"path": "/ping", "port": "http"}] * 3


def test_served_models_are_found_by_their_service_and_grow_with_their_work():
    spec, pods = serving()["Deployment"]["spec"], serving()["Deployment"]["spec"]["template"]
    assert serving()["Service"]["spec"]["selector"] == spec["selector"]["matchLabels"] == pods["metadata"]["labels"]
    assert serving()["Service"]["spec"].get("type", "ClusterIP") == "ClusterIP", "it asks nobody for a password"
    grown = serving()["HorizontalPodAutoscaler"]["spec"]
    assert grown["scaleTargetRef"]["name"] == serving()["Deployment"]["metadata"]["name"]
    assert grown["minReplicas"] < grown["maxReplicas"] and "replicas" not in spec
    (container,) = pods["spec"]["containers"]
    assert container["image"].endswith(f"/i2idist:{VERSION}-cpu")
    assert container["resources"]["requests"]["cpu"] == container["env"][0]["value"]
