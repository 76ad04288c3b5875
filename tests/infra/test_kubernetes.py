"""What `kubectl apply` is given: the schemas of Kubernetes, the rules of KubeRay, and a closed door."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from pipelines.node_types import read_cluster
from tests.infra.kuberay import CLUSTER, JOB, RAY_CLUSTER, RAY_JOB
from tests.infra.kuberay import main as check_with

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "infra"
KUBERNETES = "1.34"
PLAIN = (FOLDER / "kuberay" / "shared.yaml", FOLDER / "mlflow" / "kubernetes.yaml")
Object = dict[str, Any]


def objects(*files: Path) -> list[Object]:
    return [each for file in files for each in yaml.safe_load_all(file.read_text())]


def ray_spec(file: Path) -> Object:
    """The cluster that a RayCluster or a RayJob describes."""
    (resource,) = objects(file)
    return resource["spec"].get("rayClusterSpec", resource["spec"])


def groups(spec: Object) -> list[Object]:
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


def templates() -> Iterator[Object]:
    """Every pod that these files can start."""
    for resource in objects(*PLAIN):
        if "template" in resource["spec"]:
            yield resource["spec"]["template"]
    for file in (CLUSTER, JOB):
        yield from (group["template"] for group in groups(ray_spec(file)))


def refusal(resource: Object) -> str:
    """What Kubernetes has against an object; empty when it takes it."""
    try:
        kubernetes_validate.validate(resource, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return error.message
    return ""


def pod_refusal(template: Object) -> str:
    kind = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "checked"}}
    return refusal({**kind, "template": template})


def test_kubernetes_takes_every_object_and_would_refuse_a_misspelled_key():
    resources = objects(*PLAIN)
    assert [refusal(resource) for resource in resources] == [""] * len(resources)
    service = next(resource for resource in resources if resource["kind"] == "Service")
    assert "selectr" in refusal({**service, "spec": {**service["spec"], "selectr": {}}})
    assert refusal({**service, "spec": {"ports": [{"port": "many"}]}})


@pytest.mark.parametrize("file", [CLUSTER, JOB])
def test_kubernetes_takes_every_pod_of_ray_and_would_refuse_a_misspelled_key(file):
    for group in groups(ray_spec(file)):
        assert pod_refusal(group["template"]) == ""
        spoiled = copy.deepcopy(group["template"])
        spoiled["spec"]["containers"][0]["resources"]["limit"] = {}
        assert "limit" in pod_refusal(spoiled)


@pytest.mark.parametrize(("file", "schema"), [(CLUSTER, RAY_CLUSTER), (JOB, RAY_JOB)])
def test_kuberay_takes_the_file_and_would_refuse_a_misspelled_or_wrong_setting(file, schema):
    check = jsonschema.Draft202012Validator(schema)
    (resource,) = objects(file)
    assert [error.message for error in check.iter_errors(resource)] == []
    read_cluster(file)  # by the function of Ray's own autoscaler

    def refused(spoil: Any) -> bool:
        spoiled = copy.deepcopy(resource)
        spoil(spoiled["spec"].get("rayClusterSpec", spoiled["spec"]))
        return not check.is_valid(spoiled)

    assert refused(lambda spec: spec.update(enableInTreeAutoscalin=True))
    assert refused(lambda spec: spec["workerGroupSpecs"][0].update(maxReplicas="64"))
    assert refused(lambda spec: spec["workerGroupSpecs"][0].pop("groupName"))
    assert refused(lambda spec: spec["headGroupSpec"]["rayStartParams"].update({"num-cpus": 0}))
    assert refused(lambda spec: spec["authOptions"].update(mode="none"))


@pytest.mark.parametrize(("unknown_fields", "code"), [(False, 1), (True, 0)])
def test_manifests_can_be_checked_by_the_operator_s_own_definitions(tmp_path, capsys, unknown_fields, code):
    def definition(kind: str) -> Object:
        spec = {"type": "object", "properties": {}, "x-kubernetes-preserve-unknown-fields": unknown_fields}
        known = {name: {} for name in ("apiVersion", "kind", "metadata")}
        schema = {"type": "object", "properties": {**known, "spec": spec}}
        versions = [{"name": "v1", "schema": {"openAPIV3Schema": schema}}]
        return {"spec": {"names": {"kind": kind}, "versions": versions}}

    file = tmp_path / "crds.yaml"
    file.write_text(yaml.safe_dump_all(map(definition, ("RayCluster", "RayJob"))))
    assert check_with(file) == code
    said = capsys.readouterr().out
    assert ("'headGroupSpec'" in said, "taken: RayCluster, RayJob" in said) == (code == 1, code == 0)


def test_a_job_has_the_same_cluster_but_for_redis_and_ends_it():
    cluster, job = ray_spec(CLUSTER), ray_spec(JOB)
    assert cluster.pop("gcsFaultToleranceOptions")["redisAddress"] == "redis:6379"
    assert cluster == job
    (resource,) = objects(JOB)
    assert resource["spec"]["shutdownAfterJobFinishes"] is True
    assert resource["spec"]["entrypoint"].startswith("dreamer run ")


def test_the_job_runs_a_recipe_that_exists_with_settings_that_exist():
    from pipelines.recipe_file import load_recipe

    (resource,) = objects(JOB)
    _, command, name, *overrides = resource["spec"]["entrypoint"].split()
    recipe = load_recipe(name, tuple(overrides))
    assert command == "run"
    assert recipe.run_directory.startswith("/runs/")
    (mlflow,) = (
        one for one in objects(PLAIN[1]) if (one["kind"], one["metadata"]["name"]) == ("Service", "mlflow")
    )
    assert recipe.tracking.uri == f"http://mlflow:{mlflow['spec']['ports'][0]['port']}"


def test_groups_are_those_of_the_cloud_clusters_and_start_from_nothing():
    types = {kind.name.replace("-", "_"): kind for kind in read_cluster(CLUSTER).node_types}
    cloud = {kind.name: kind for kind in read_cluster(ROOT / "ray_cluster.yaml").node_types}
    for name in ("decode_cpu", "precompute_gpu", "train_gpu"):
        assert types[name].nodes == cloud[name].nodes
        assert types[name].resources.get("GPU") == cloud[name].resources.get("GPU")
    assert all(group["minReplicas"] == 0 for group in ray_spec(CLUSTER)["workerGroupSpecs"])
    assert ray_spec(CLUSTER)["enableInTreeAutoscaling"] is True


def test_no_pod_is_root_or_may_become_it_or_has_an_unnamed_image():
    for template in templates():
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            _, _, tag = container["image"].rpartition(":")
            assert tag[0].isdigit()
            assert "memory" in container["resources"]["limits"]


def test_nothing_is_open_to_the_world_and_no_secret_is_written_down():
    everything = objects(*PLAIN, CLUSTER, JOB)
    kinds = {resource["kind"] for resource in everything}
    assert not kinds & {"Ingress", "Secret"}
    services = [resource["spec"] for resource in everything if resource["kind"] == "Service"]
    assert {service.get("type", "ClusterIP") for service in services} == {"ClusterIP"}
    for file in (CLUSTER, JOB):
        spec = ray_spec(file)
        assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"
        assert spec["authOptions"] == {"mode": "token", "secretName": "ray-auth-token"}
    policies = [resource["spec"] for resource in everything if resource["kind"] == "NetworkPolicy"]
    closed = [policy["podSelector"] for policy in policies if policy["ingress"][0]["from"]]
    for resource in everything:
        if resource["kind"] in ("Deployment", "StatefulSet"):
            assert {"matchLabels": resource["spec"]["template"]["metadata"]["labels"]} in closed
    for template in templates():
        for container in template["spec"]["containers"]:
            for variable in container.get("env", ()):
                if variable["name"].endswith(("PASSWORD", "KEY", "KEY_ID")):
                    assert "secretKeyRef" in variable["valueFrom"]


def test_every_claim_and_service_that_is_named_is_there():
    shared, mlflow = objects(PLAIN[0]), objects(PLAIN[1])
    claims = {one["metadata"]["name"] for one in shared if one["kind"] == "PersistentVolumeClaim"}
    for template in templates():
        volumes = template["spec"].get("volumes", ())
        named = {volume["name"] for volume in volumes}
        wanted = {
            volume["persistentVolumeClaim"]["claimName"]
            for volume in volumes
            if "persistentVolumeClaim" in volume
        }
        assert wanted <= claims
        if template in [group["template"] for group in groups(ray_spec(CLUSTER))]:
            assert {mount["name"] for mount in template["spec"]["containers"][0]["volumeMounts"]} == named
    services = {one["metadata"]["name"] for one in [*shared, *mlflow] if one["kind"] == "Service"}
    assert {"redis", "mlflow", "mlflow-postgres"} == services
