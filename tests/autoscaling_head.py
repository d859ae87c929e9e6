"""A Ray head with the real autoscaler (its second version), whose new nodes are raylets on this machine."""

from __future__ import annotations

import contextlib
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from ray._private.services import get_node_ip_address
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID
from ray_head import Head, free_ports, ray_head

POOL = "xalign/pool"
_STORE = 80 * 2**20
_EMPTY = {
    "auth": {},
    "docker": {},
    "file_mounts": {},
    "cluster_synced_files": [],
    "initialization_commands": [],
    "setup_commands": [],
    "head_setup_commands": [],
    "worker_setup_commands": [],
    "head_start_ray_commands": [],
    "worker_start_ray_commands": [],
}


@contextlib.contextmanager
def autoscaling_head(
    groups: dict[str, tuple[dict[str, int], int]],
    idle_seconds: int,
    more: Mapping[str, Mapping[str, str]] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Head]:
    """A head that takes no work, and ``groups`` (resources of a node, most nodes) that start at zero nodes.

    A group's nodes have the label xalign/pool=NAME, and those of ``more``. Ray's own AutoscalingCluster
    cannot be used: it needs a file that is not in the wheel, and ends every Ray on the machine. Named as an
    external provider, the fake one needs no such file.
    """
    host, (port,) = get_node_ip_address(), free_ports(1)
    config = {
        **_EMPTY,
        "cluster_name": "fake",
        "max_workers": 8,
        "upscaling_speed": 10,
        "idle_timeout_minutes": idle_seconds / 60,
        "provider": {
            "type": "external",
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "gcs_address": f"{host}:{port}",
            "head_node_id": FAKE_HEAD_NODE_ID,
            "launch_multiple": True,
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "head_node_type": "ray.head.default",
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            **{
                name: {
                    "resources": {**resources, "object_store_memory": _STORE},
                    "labels": {POOL: name, **(more or {}).get(name, {})},
                    "node_config": {},
                    "min_workers": 0,
                    "max_workers": most,
                }
                for name, (resources, most) in groups.items()
            },
        },
    }
    variables = {
        **(environment or {}),
        "RAY_AUTH_MODE": "disabled",
        "RAY_FAKE_CLUSTER": "1",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
    }
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        file = Path(folder, "cluster.yaml")
        file.write_text(yaml.safe_dump(config))
        options = (f"--autoscaling-config={file}", f"--node-ip-address={host}")
        with ray_head(variables, options=options, cpus=0, host=host, port=port) as head:
            yield head


def pools(client: Any) -> Counter[str]:
    """Live nodes of each group, asked of the cluster's own books without joining it."""
    from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply, NodeStatus

    reply = GetClusterStatusReply()
    reply.ParseFromString(client.get_cluster_status(timeout_s=10))
    states = reply.cluster_resource_state.node_states
    return Counter(
        state.labels[POOL] for state in states if state.status != NodeStatus.DEAD and POOL in state.labels
    )
