"""What KubeRay 1.7 takes of the settings that these manifests use; whatever else is said is a mistake.

Pods are Kubernetes' own and are checked as such. KubeRay's definitions of its objects come with its operator,
in no Python package; who has them checks the manifests against them:

    helm show crds kuberay/kuberay-operator --version 1.7.0 > crds.yaml
    python -m tests.infra.kuberay crds.yaml
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import yaml

FOLDER = Path(__file__).parents[2] / "infra" / "kuberay"
CLUSTER, JOB = FOLDER / "cluster.yaml", FOLDER / "job.yaml"

Schema = dict[str, Any]


def closed(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    """An object with these keys and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


TEXT: Schema = {"type": "string"}
TRUTH: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
ANY_OBJECT: Schema = {"type": "object"}  # Kubernetes' own
TEXTS: Schema = {"type": "object", "additionalProperties": TEXT}
QUANTITIES: Schema = {"type": "object", "additionalProperties": {"type": ["string", "integer"]}}
SECRET = closed(
    ("valueFrom",),
    valueFrom=closed(("secretKeyRef",), secretKeyRef=closed(("name", "key"), name=TEXT, key=TEXT)),
)
POD = closed(("spec",), metadata=ANY_OBJECT, spec=ANY_OBJECT)

HEAD_GROUP = closed(
    ("rayStartParams", "template"),
    serviceType={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
    enableIngress=TRUTH,
    rayStartParams=TEXTS,
    resources=TEXTS,
    template=POD,
)
WORKER_GROUP = closed(
    ("groupName", "minReplicas", "maxReplicas", "template"),
    # A part of the pods' names.
    groupName={"type": "string", "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$", "maxLength": 50},
    replicas=COUNT,
    minReplicas=COUNT,
    maxReplicas=COUNT,
    idleTimeoutSeconds=COUNT,
    rayStartParams=TEXTS,
    resources=TEXTS,
    template=POD,
)
CLUSTER_SPEC = closed(
    ("rayVersion", "headGroupSpec"),
    rayVersion=TEXT,
    enableInTreeAutoscaling=TRUTH,
    autoscalerOptions=closed(
        version={"enum": ["v1", "v2"]},
        idleTimeoutSeconds=COUNT,
        resources=closed(requests=QUANTITIES, limits=QUANTITIES),
        securityContext=ANY_OBJECT,
    ),
    authOptions=closed(mode={"enum": ["disabled", "token"]}, secretName=TEXT),
    gcsFaultToleranceOptions=closed(redisAddress=TEXT, redisPassword=SECRET),
    headGroupSpec=HEAD_GROUP,
    workerGroupSpecs={"type": "array", "items": WORKER_GROUP},
)
JOB_SPEC = closed(
    ("entrypoint", "rayClusterSpec"),
    entrypoint=TEXT,
    shutdownAfterJobFinishes=TRUTH,
    ttlSecondsAfterFinished=COUNT,
    backoffLimit=COUNT,
    rayClusterSpec=CLUSTER_SPEC,
)


def resource(kind: str, spec: Schema) -> Schema:
    """An object of KubeRay's API."""
    return closed(
        ("apiVersion", "kind", "metadata", "spec"),
        apiVersion={"const": "ray.io/v1"},
        kind={"const": kind},
        metadata={"type": "object", "anyOf": [{"required": ["name"]}, {"required": ["generateName"]}]},
        spec=spec,
    )


RAY_CLUSTER = resource("RayCluster", CLUSTER_SPEC)
RAY_JOB = resource("RayJob", JOB_SPEC)


# ---------------------------------------------------------------- by the operator's own definitions


def defined(definitions: Path) -> dict[str, Schema]:
    """Schema of each kind that a file of CustomResourceDefinitions has a v1 of."""
    resources = [each["spec"] for each in yaml.safe_load_all(definitions.read_text()) if each]
    return {
        spec["names"]["kind"]: no_other_keys(version["schema"]["openAPIV3Schema"])
        for spec in resources
        for version in spec["versions"]
        if version["name"] == "v1"
    }


def no_other_keys(schema: Any) -> Any:
    """The schema as `kubectl apply` reads it: a key that it does not know is refused."""
    if isinstance(schema, list):
        return [no_other_keys(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed_below = {key: no_other_keys(value) for key, value in schema.items()}
    open_below = schema.get("x-kubernetes-preserve-unknown-fields", False)
    return closed_below | ({"additionalProperties": open_below} if "properties" in schema else {})


def refusals(resource: Any, schemas: dict[str, Schema]) -> Iterator[str]:
    for error in jsonschema.Draft202012Validator(schemas[resource["kind"]]).iter_errors(resource):
        yield f"{resource['kind']} {error.json_path}: {error.message}"


def main(definitions: Path) -> int:
    """Exit code: 0 when KubeRay takes both manifests. Its rules between settings (CEL) are not looked at."""
    schemas = defined(definitions)
    resources = [each for file in (CLUSTER, JOB) for each in yaml.safe_load_all(file.read_text())]
    against = [refusal for resource in resources for refusal in refusals(resource, schemas)]
    print("\n".join(against) or f"taken: {', '.join(resource['kind'] for resource in resources)}")
    return bool(against)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
