from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray.autoscaler
import yaml
from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
from ray.autoscaler._private.util import prepare_config, validate_config

from xalign_dist.config import load_config

REPO = Path(__file__).parents[3]
CLUSTER = REPO / "cluster"
LAUNCHERS = [CLUSTER / "aws.yaml", CLUSTER / "gcp.yaml"]
MANIFESTS = [CLUSTER / "kuberay" / "raycluster.yaml", CLUSTER / "kuberay" / "rayjob.yaml"]
POOLS = {"head", "data", "train", "spot"}


def _load(path: Path) -> dict[str, Any]:
    data = yaml.safe_load(path.read_text("utf-8"))
    assert isinstance(data, dict)
    return data


def _ray_spec(path: Path) -> dict[str, Any]:
    spec = _load(path)["spec"]
    found = spec.get("rayClusterSpec", spec)
    assert isinstance(found, dict)
    return found


def _groups(path: Path) -> Iterator[dict[str, Any]]:
    spec = _ray_spec(path)
    yield spec["headGroupSpec"]
    yield from spec["workerGroupSpecs"]


def _labels(path: Path) -> list[dict[str, str]]:
    if path in LAUNCHERS:
        return [t["labels"] for t in _load(path)["available_node_types"].values()]
    return [g["labels"] for g in _groups(path)]


@pytest.mark.parametrize("path", LAUNCHERS, ids=lambda p: p.stem)
def test_launcher_meets_rays_own_schema(path: Path) -> None:
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text("utf-8"))
    config = _load(path)
    jsonschema.validate(config, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**config, "max_worker": 1}, schema)


@pytest.mark.parametrize("path", LAUNCHERS, ids=lambda p: p.stem)
def test_ray_up_would_take_the_launcher(path: Path) -> None:
    """What `ray up` does before it asks the cloud for anything: its defaults filled in, then checked."""
    given = _load(path)
    prepared = prepare_config(copy.deepcopy(given))
    validate_config(prepared)
    # No pool of Ray's defaults comes in beside ours, and what is ours stays as it is written.
    assert set(prepared["available_node_types"]) == POOLS
    head = prepared["available_node_types"][prepared["head_node_type"]]
    assert head["max_workers"] == 0
    for key in ("auth", "docker", "file_mounts", "head_start_ray_commands", "worker_start_ray_commands"):
        assert prepared[key] == given[key]
    with pytest.raises(ValueError, match="head_node_type"):
        validate_config(prepare_config({**copy.deepcopy(given), "head_node_type": "nobody"}))


@pytest.mark.parametrize("path", LAUNCHERS, ids=lambda p: p.stem)
def test_launcher_leaves_the_size_of_shared_memory_to_ray(path: Path) -> None:
    """Docker's own /dev/shm has 64 MiB; Ray sizes it by the node, unless it is told not to."""
    config = _load(path)
    dockers = [config["docker"], *(t.get("docker", {}) for t in config["available_node_types"].values())]
    for docker in dockers:
        assert not docker.get("disable_shm_size_detection")
        # Switched off, GPUs would not be seen either.
        assert not docker.get("disable_automatic_runtime_detection")
        options = [o for key, value in docker.items() if key.endswith("run_options") for o in value]
        assert not any("shm-size" in o or "--ipc" in o or "/dev/shm" in o for o in options)


@pytest.mark.parametrize("path", LAUNCHERS, ids=lambda p: p.stem)
def test_launcher_pools_start_at_zero_and_the_head_takes_no_task(path: Path) -> None:
    config = _load(path)
    types = config["available_node_types"]
    assert types[config["head_node_type"]]["resources"] == {"CPU": 0}
    for name, kind in types.items():
        assert kind["labels"]["xalign/pool"] == name
        if name != config["head_node_type"]:
            assert kind["min_workers"] == 0
            assert kind["idle_timeout_s"] > 0
            assert 0 < kind["max_workers"] <= config["max_workers"]
    assert types["train"]["resources"]["GPU"] > 0
    assert types["spot"]["resources"]["GPU"] > 0


@pytest.mark.parametrize("path", LAUNCHERS, ids=lambda p: p.stem)
def test_launcher_is_private_and_asks_for_a_token(path: Path) -> None:
    config = _load(path)
    text = path.read_text("utf-8")
    assert config["provider"]["use_internal_ips"] is True
    assert "--env=RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    assert config["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}
    assert "0.0.0.0" not in text
    starts = [c for c in config["head_start_ray_commands"] if "ray start" in c]
    assert len(starts) == 1
    assert "RAY_enable_autoscaler_v2=1" in starts[0]
    assert "--dashboard-host=127.0.0.1" in starts[0]
    for command in [*starts, *(c for c in config["worker_start_ray_commands"] if "ray start" in c)]:
        assert "RAY_AUTH_MODE=token" in command


def test_aws_nodes_name_their_own_network_and_role() -> None:
    for kind in _load(LAUNCHERS[0])["available_node_types"].values():
        node = kind["node_config"]
        assert node["SecurityGroupIds"]
        assert node["SubnetIds"]
        assert node["IamInstanceProfile"]["Name"] in {"xalign-head", "xalign-worker"}
        assert all(d["Ebs"]["Encrypted"] for d in node["BlockDeviceMappings"])


def test_gcp_nodes_have_no_public_address() -> None:
    for kind in _load(LAUNCHERS[1])["available_node_types"].values():
        assert all("accessConfigs" not in i for i in kind["node_config"]["networkInterfaces"])
        assert kind["node_config"]["serviceAccounts"]


def test_spot_pools_are_spot_and_only_they() -> None:
    aws, gcp = (_load(p)["available_node_types"] for p in LAUNCHERS)
    for name in aws:
        assert ("InstanceMarketOptions" in aws[name]["node_config"]) == (name == "spot")
        spot = gcp[name]["node_config"].get("scheduling", {}).get("provisioningModel") == "SPOT"
        assert spot == (name == "spot")
    for path in [*LAUNCHERS, *MANIFESTS]:
        assert {x["xalign/pool"] for x in _labels(path) if x["xalign/market"] == "spot"} == {"spot"}


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda p: p.stem)
def test_kuberay_autoscales_by_the_second_version_with_a_token(path: Path) -> None:
    spec = _ray_spec(path)
    assert spec["enableInTreeAutoscaling"] is True
    assert spec["autoscalerOptions"]["version"] == "v2"
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert all(g["minReplicas"] == 0 for g in spec["workerGroupSpecs"])


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda p: p.stem)
def test_kuberay_pods_have_shared_memory_and_no_rights(path: Path) -> None:
    for group in _groups(path):
        pod = group["template"]["spec"]
        container = pod["containers"][0]
        shm = next(v for v in pod["volumes"] if v["name"] == "shm")["emptyDir"]
        assert shm["medium"] == "Memory"
        assert _gib(shm["sizeLimit"]) > 0.3 * _gib(container["resources"]["limits"]["memory"])
        assert {"name": "shm", "mountPath": "/dev/shm"} in container["volumeMounts"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert group["labels"]["xalign/pool"] == "head" or pod["automountServiceAccountToken"] is False


def test_rayjob_starts_the_cluster_of_raycluster() -> None:
    assert _ray_spec(MANIFESTS[0]) == _ray_spec(MANIFESTS[1])


def test_rayjob_retries_with_a_run_directory_that_outlives_the_cluster() -> None:
    spec = _load(MANIFESTS[1])["spec"]
    assert spec["backoffLimit"] > 0
    assert spec["shutdownAfterJobFinishes"] is True
    module, config = re.fullmatch(r"python -m (\S+) (\S+) --out /shared/\S+", spec["entrypoint"]).groups()  # type: ignore[union-attr]
    assert (REPO / f"{module.replace('.', '/')}.py").exists()
    assert (REPO / config).exists()


def test_every_node_sees_the_shared_folder() -> None:
    for path in LAUNCHERS:
        config = _load(path)
        assert "--volume=/shared:/shared" in config["docker"]["run_options"]
        assert any("mount" in c and c.endswith(" /shared") for c in config["initialization_commands"])
    for path in MANIFESTS:
        for group in _groups(path):
            pod = group["template"]["spec"]
            claim = next(v for v in pod["volumes"] if v["name"] == "shared")
            assert claim["persistentVolumeClaim"]
            assert {"name": "shared", "mountPath": "/shared"} in pod["containers"][0]["volumeMounts"]


def test_network_policy_covers_the_pods() -> None:
    policy = _load(CLUSTER / "kuberay" / "networkpolicy.yaml")["spec"]
    wanted = policy["podSelector"]["matchLabels"]
    assert policy["policyTypes"] == ["Ingress"]
    for path in MANIFESTS:
        for group in _groups(path):
            assert wanted.items() <= group["template"]["metadata"]["labels"].items()


@pytest.mark.parametrize("path", [*LAUNCHERS, *MANIFESTS], ids=lambda p: p.stem)
def test_every_cluster_has_every_pool_that_configs_ask_for(path: Path) -> None:
    labels = _labels(path)
    assert {x["xalign/pool"] for x in labels} == POOLS
    for config_path in sorted((REPO / "jobs" / "configs").glob("*.yaml")):
        wanted = load_config(config_path).runtime.node_labels.items()
        assert any(wanted <= have.items() for have in labels), config_path


@pytest.mark.parametrize("path", sorted((CLUSTER / "deepspeed").glob("*.json")), ids=lambda p: p.stem)
def test_deepspeed_files_are_known_to_deepspeed(path: Path) -> None:
    zero = json.loads(path.read_text("utf-8"))["zero_optimization"]
    known = set(DeepSpeedZeroConfig.model_fields) | {
        f.alias for f in DeepSpeedZeroConfig.model_fields.values() if f.alias
    }
    assert set(zero) <= known
    parsed = DeepSpeedZeroConfig(**zero)
    assert int(parsed.stage) == int(re.search(r"zero(\d)", path.stem).group(1))  # type: ignore[union-attr]


@pytest.mark.parametrize("path", sorted((CLUSTER / "iam").glob("*.json")), ids=lambda p: p.stem)
def test_policies_name_actions_and_keep_changes_narrow(path: Path) -> None:
    for statement in json.loads(path.read_text("utf-8"))["Statement"]:
        actions = [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
        assert all("*" not in action for action in actions)
        if statement["Resource"] == "*":
            assert all(action.split(":")[1].startswith("Describe") for action in actions)


def test_dockerfile_has_both_targets_and_no_root() -> None:
    text = (CLUSTER / "Dockerfile").read_text("utf-8")
    assert re.findall(r"^FROM \S+ AS (\w+)$", text, re.MULTILINE) == ["base", "cpu", "cuda"]
    assert re.findall(r"^USER (\w+)$", text, re.MULTILINE) == ["ray"]
    for source in re.findall(r"^COPY --chown=ray:ray (.+) \S+$", text, re.MULTILINE):
        for name in source.split():
            assert name in {"README.md", "LICENSE"} or (REPO / name).exists()


def _gib(size: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(Gi|Mi)", size).groups()  # type: ignore[union-attr]
    return float(number) / (1 if unit == "Gi" else 1024)


@pytest.mark.parametrize(("path", "columns"), [(LAUNCHERS[0], (2, 3)), (LAUNCHERS[1], (4, 5))])
def test_cost_table_names_what_the_files_start(path: Path, columns: tuple[int, int]) -> None:
    """Machine types, the most nodes of each pool, and the sum at max_workers: dearest pools first."""
    machine, price = columns
    table = (CLUSTER / "README.md").read_text("utf-8").partition("## Cost")[2]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if "|" in line]
    by_pool = {cells[0]: cells for cells in rows}
    config, hourly = _load(path), {}
    for kind in config["available_node_types"].values():
        cells, node = by_pool[kind["labels"]["xalign/pool"]], kind["node_config"]
        assert cells[machine] == node.get("InstanceType", node.get("machineType"))
        most = kind.get("max_workers", 0)
        if cells[0] != "head":
            assert int(cells[6]) == most
        # A range is the spot market's: its upper end.
        hourly[cells[0]] = (float(re.findall(r"\d+\.\d+", cells[price].partition("(")[0])[-1]), most)
    total, left = hourly.pop("head")[0], config["max_workers"]
    for cost, most in sorted(hourly.values(), reverse=True):
        total, left = total + cost * min(most, left), left - min(most, left)
    (stated,) = (float(cells[price]) for cells in rows if "max_workers" in cells[0])
    assert total == pytest.approx(stated, abs=0.05)
