"""What KubeRay 1.7 takes of the settings that these manifests use; whatever else is said is a mistake.

Pods are Kubernetes' own and are checked as such. KubeRay's definitions of its objects come with its operator,
in no Python package: both manifests were checked against those of 1.7.0 when they were written.
"""

from typing import Any

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
