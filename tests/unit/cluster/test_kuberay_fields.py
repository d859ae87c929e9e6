"""Every field of the KubeRay files is one that KubeRay 1.6 knows, with a value of its type: Kubernetes
drops or refuses others, and a group without its labels or idle time-out costs money in silence."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

FOLDER = Path(__file__).parents[3] / "cluster" / "kuberay"
CLUSTER, JOB, POLICY = (FOLDER / f"{name}.yaml" for name in ("raycluster", "rayjob", "networkpolicy"))

Schema = dict[str, Any]


def _object(required: str = "", /, **fields: Schema) -> Schema:
    return {
        "type": "object",
        "properties": fields,
        "required": required.split(),
        "additionalProperties": False,
    }


def _list(of: Schema) -> Schema:
    return {"type": "array", "items": of, "minItems": 1}


def _one_of(*values: str) -> Schema:
    return {"enum": list(values)}


TEXT: Schema = {"type": "string", "minLength": 1}
YES: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
# Kubernetes takes labels and start parameters as texts only: an unquoted number is refused.
TEXTS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
QUANTITY: Schema = {"type": "string", "pattern": r"^\d+(m|Mi|Gi)?$"}
AMOUNTS: Schema = {"type": "object", "additionalProperties": QUANTITY, "propertyNames": _one_of(
    "cpu", "memory", "nvidia.com/gpu"
)}  # fmt: skip
RESOURCES = _object("requests limits", requests=AMOUNTS, limits=AMOUNTS)
PROFILE = _object("type", type=_one_of("RuntimeDefault"))
METADATA = _object("", name=TEXT, labels=TEXTS)
CONTAINER = _object(
    "name image resources securityContext",
    name=TEXT,
    image=TEXT,
    resources=RESOURCES,
    securityContext=_object(
        "allowPrivilegeEscalation capabilities",
        allowPrivilegeEscalation=YES,
        capabilities=_object("drop", drop=_list(TEXT)),
    ),
    ports=_list(_object("containerPort", containerPort=COUNT, name=TEXT)),
    volumeMounts=_list(_object("name mountPath", name=TEXT, mountPath=TEXT)),
)
POD = _object(
    "containers securityContext",
    containers=_list(CONTAINER),
    securityContext=_object(
        "runAsNonRoot runAsUser",
        runAsNonRoot=YES,
        runAsUser=COUNT,
        runAsGroup=COUNT,
        fsGroup=COUNT,
        seccompProfile=PROFILE,
    ),
    automountServiceAccountToken=YES,
    nodeSelector=TEXTS,
    restartPolicy=_one_of("Always", "OnFailure", "Never"),
    terminationGracePeriodSeconds=COUNT,
    tolerations=_list(
        _object(
            "key operator",
            key=TEXT,
            operator=_one_of("Exists", "Equal"),
            effect=_one_of("NoSchedule", "NoExecute", "PreferNoSchedule"),
        )
    ),
    volumes=_list(
        _object(
            "name",
            name=TEXT,
            emptyDir=_object("sizeLimit", medium=_one_of("Memory"), sizeLimit=QUANTITY),
            persistentVolumeClaim=_object("claimName", claimName=TEXT),
        )
    ),
)
TEMPLATE = _object("metadata spec", metadata=METADATA, spec=POD)
HEAD = _object(
    "rayStartParams template labels",
    serviceType=_one_of("ClusterIP", "NodePort", "LoadBalancer"),
    labels=TEXTS,
    rayStartParams=TEXTS,
    template=TEMPLATE,
)
GROUP = _object(
    "groupName replicas minReplicas maxReplicas idleTimeoutSeconds labels rayStartParams template",
    groupName=TEXT,
    replicas=COUNT,
    minReplicas=COUNT,
    maxReplicas=COUNT,
    idleTimeoutSeconds=COUNT,
    labels=TEXTS,
    rayStartParams=TEXTS,
    template=TEMPLATE,
)
CLUSTER_SPEC = _object(
    "rayVersion enableInTreeAutoscaling autoscalerOptions authOptions headGroupSpec workerGroupSpecs",
    rayVersion=TEXT,
    enableInTreeAutoscaling=YES,
    autoscalerOptions=_object(
        "version idleTimeoutSeconds",
        version=_one_of("v1", "v2"),
        upscalingMode=_one_of("Default", "Aggressive", "Conservative"),
        idleTimeoutSeconds=COUNT,
        resources=RESOURCES,
    ),
    authOptions=_object("mode", mode=_one_of("token", "disabled")),
    headGroupSpec=HEAD,
    workerGroupSpecs=_list(GROUP),
)
JOB_SPEC = _object(
    "entrypoint rayClusterSpec",
    entrypoint=TEXT,
    backoffLimit=COUNT,
    shutdownAfterJobFinishes=YES,
    ttlSecondsAfterFinished=COUNT,
    activeDeadlineSeconds={"type": "integer", "minimum": 1},
    submitterPodTemplate=TEMPLATE,
    rayClusterSpec=CLUSTER_SPEC,
)
SELECTOR = _object("matchLabels", matchLabels=TEXTS)
POLICY_SPEC = _object(
    "podSelector policyTypes ingress",
    podSelector=SELECTOR,
    policyTypes=_list(_one_of("Ingress", "Egress")),
    ingress=_list(
        _object(
            "from",
            **{"from": _list(_object("", podSelector=SELECTOR, namespaceSelector=SELECTOR))},
            ports=_list(_object("protocol port", protocol=_one_of("TCP", "UDP"), port=COUNT)),
        )
    ),
)


def _whole(version: str, kind: str, spec: Schema) -> Schema:
    return _object(
        "apiVersion kind metadata spec",
        apiVersion=_one_of(version),
        kind=_one_of(kind),
        metadata=METADATA,
        spec=spec,
    )


SCHEMAS = {
    CLUSTER: _whole("ray.io/v1", "RayCluster", CLUSTER_SPEC),
    JOB: _whole("ray.io/v1", "RayJob", JOB_SPEC),
    POLICY: _whole("networking.k8s.io/v1", "NetworkPolicy", POLICY_SPEC),
}


def _load(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text("utf-8")))


def _settings(tree: Any) -> Iterator[dict[str, Any]]:
    """Every mapping in the tree whose keys are fields, not names of labels and amounts."""
    if isinstance(tree, list):
        for item in tree:
            yield from _settings(item)
    elif isinstance(tree, dict):
        if not any("/" in key for key in tree) and not {"cpu", "memory"} & set(tree):
            yield tree
        for key, value in tree.items():
            if key not in {"rayStartParams", "labels", "matchLabels", "nodeSelector"}:
                yield from _settings(value)


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda p: p.stem)
def test_every_field_is_known_and_of_its_type(path: Path) -> None:
    jsonschema.validate(_load(path), SCHEMAS[path])


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda p: p.stem)
def test_a_wrong_name_anywhere_is_found(path: Path) -> None:
    good = _load(path)
    count = sum(1 for _ in _settings(good))
    assert count > 5
    for n in range(0, count, 1 + count // 12):
        bad = copy.deepcopy(good)
        next(s for i, s in enumerate(_settings(bad)) if i == n)["idleTimeoutSecond"] = 1
        with pytest.raises(jsonschema.ValidationError, match="idleTimeoutSecond"):
            jsonschema.validate(bad, SCHEMAS[path])


def test_numbers_where_kubernetes_takes_texts_are_found() -> None:
    bad = _load(CLUSTER)
    bad["spec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0
    with pytest.raises(jsonschema.ValidationError, match="is not of type 'string'"):
        jsonschema.validate(bad, SCHEMAS[CLUSTER])
