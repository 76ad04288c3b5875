"""The files for `ray up`: Ray's own check, the clouds' own, and what the project needs of them."""

import importlib.util
import json
import os
import pty
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import boto3
import botocore.session
import google.cloud
import pytest
import yaml
from botocore.validate import ParamValidator
from google.protobuf import json_format
from moto import mock_aws
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil
from ray.core.generated.autoscaler_pb2 import GangResourceRequest

from pipelines.node_types import read_cluster
from pipelines.recipe_file import load_recipe
from pipelines.schedulable import gpu_pool

ROOT = Path(__file__).parents[2]
FILES = {"aws": ROOT / "ray_cluster.yaml", "gcp": ROOT / "infra" / "gcp_cluster.yaml"}


@pytest.fixture(params=FILES)
def cloud(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def cluster(cloud: str) -> dict:
    return prepare_config(yaml.safe_load(FILES[cloud].read_text()))


def refusal(cluster: dict) -> str:
    """What Ray's own check has against a cluster file; empty when it takes it."""
    try:
        validate_config(cluster)
    except Exception as error:
        return str(error)
    return ""


def test_ray_takes_the_file_and_would_refuse_a_misspelled_key(cluster):
    assert refusal(cluster) == ""
    assert "idle_timeout" in refusal({**cluster, "idle_timeout": 5})
    assert refusal({**cluster, "head_node_type": "hed"})


def aws_refusal(node: dict) -> str:
    """What EC2's own description of RunInstances, which boto3 carries, has against a node's settings."""
    shape = (
        botocore.session.get_session().get_service_model("ec2").operation_model("RunInstances").input_shape
    )
    return ParamValidator().validate({**node, "MinCount": 1, "MaxCount": 1}, shape).generate_report()


def test_amazon_takes_every_node_and_would_refuse_a_misspelled_or_wrong_setting():
    nodes = yaml.safe_load(FILES["aws"].read_text())["available_node_types"].values()
    assert [aws_refusal(kind["node_config"]) for kind in nodes] == [""] * len(nodes)
    node = next(kind["node_config"] for kind in nodes if "NetworkInterfaces" in kind["node_config"])
    assert "InstanceTyp" in aws_refusal({**node, "InstanceTyp": "p4d.24xlarge"})
    assert "Groups" in aws_refusal({**node, "NetworkInterfaces": [{"Groups": "sg-0"}]})


@pytest.fixture(scope="module")
def compute() -> ModuleType:
    """Google's messages of Compute Engine, without the clients of its hundred services (25 s to import)."""
    files = (Path(folder) / "compute_v1" / "types" / "compute.py" for folder in google.cloud.__path__)
    spec = importlib.util.spec_from_file_location("compute_messages", next(filter(Path.is_file, files)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its messages look each other up there
    spec.loader.exec_module(module)
    return module


def test_google_takes_every_node_and_would_refuse_a_misspelled_or_wrong_setting(compute):
    def parse(node: dict) -> None:
        json_format.ParseDict(node, compute.Instance.pb(compute.Instance()))

    file = yaml.safe_load(FILES["gcp"].read_text())
    for kind in file["available_node_types"].values():
        parse(kind["node_config"])
        (disk,) = kind["node_config"]["disks"]
        # Google's default is a standard disk, which G2 machines refuse to start with.
        zone = file["provider"]["availability_zone"]
        assert disk["initializeParams"]["diskType"] == f"zones/{zone}/diskTypes/pd-balanced"
    with pytest.raises(json_format.ParseError, match="machinTyp"):
        parse({"machinTyp": "n2-standard-8"})
    with pytest.raises(json_format.ParseError, match="diskSizeGb"):
        parse({"disks": [{"initializeParams": {"diskSizeGb": "large"}}]})


def test_decoding_is_cheap_and_training_is_not_interrupted(cluster, cloud):
    def is_spot(name: str) -> bool:
        node = groups[name]["node_config"]
        if cloud == "aws":
            return node.get("InstanceMarketOptions") == {"MarketType": "spot"}
        return node.get("scheduling", {}).get("provisioningModel") == "SPOT"

    groups = cluster["available_node_types"]
    assert cluster["idle_timeout_minutes"] <= 10
    assert groups["head"]["resources"]["CPU"] == 0
    assert "GPU" not in groups["decode_cpu"]["resources"]
    assert [name for name in groups if is_spot(name)] == ["decode_cpu", "precompute_gpu"]
    assert all(group["min_workers"] == 0 for group in groups.values())
    assert sum(group["max_workers"] for group in groups.values()) <= cluster["max_workers"]


def launched(file: Path, bundle: dict[str, float], count: int, *, together: bool) -> dict[str, int]:
    """The nodes that Ray's autoscaler starts, from nothing, for tasks or for a worker group that wait."""
    # Without what is copied to the nodes: Ray reads all of it, for a hash.
    config = AutoscalingConfig(yaml.safe_load(file.read_text()) | {"file_mounts": {}})
    wanted = [ResourceRequestUtil.make(bundle)] * count
    waiting = (
        {"gang_resource_requests": [GangResourceRequest(requests=wanted)]}
        if together
        else {"resource_requests": ResourceRequestUtil.group_by_count(wanted)}
    )
    reply = ResourceDemandScheduler().schedule(
        SchedulingRequest(
            disable_launch_config_check=True,
            node_type_configs=config.get_node_type_configs(),
            max_num_nodes=config.get_max_num_nodes(),
            **waiting,
        )
    )
    assert not reply.infeasible_resource_requests
    assert not reply.infeasible_gang_resource_requests
    counts = Counter({launch.instance_type: launch.count for launch in reply.to_launch})
    counts.pop("head", None)  # which is there already
    return dict(counts)


def test_rays_autoscaler_answers_each_step_with_its_own_group(cloud):
    file = FILES[cloud]
    paper = load_recipe("paper")
    precompute = gpu_pool(read_cluster(file))
    assert launched(file, {"CPU": 1}, 2048, together=False) == {"decode_cpu": 64}
    wanted = dict(precompute.resources)
    assert launched(file, wanted, precompute.actors, together=False) == {"precompute_gpu": 16}
    worker = {"CPU": paper.train.cpus_per_worker, "GPU": paper.train.gpus_per_worker}
    assert launched(file, worker, paper.train.workers, together=True) == {"train_gpu": 8}


def test_training_nodes_stand_side_by_side_and_are_joined_by_efa():
    types = yaml.safe_load(FILES["aws"].read_text())["available_node_types"]
    train = types["train_gpu"]["node_config"]
    assert train["Placement"]["GroupName"]
    (interface,) = train["NetworkInterfaces"]
    assert interface["InterfaceType"] == "efa"
    groups = {*interface["Groups"]} | {
        group for kind in types.values() for group in kind["node_config"].get("SecurityGroupIds", ())
    }
    assert len(groups) == 1  # or nodes would not hear each other
    assert all("MetadataOptions" in kind["node_config"] for kind in types.values())
    (start,) = (command for command in commands("aws", "worker_start_ray_commands") if "ray start" in command)
    assert "FI_PROVIDER=efa" in start
    google_train = yaml.safe_load(FILES["gcp"].read_text())["available_node_types"]["train_gpu"]
    assert google_train["node_config"]["resourcePolicies"]


def test_every_node_has_a_role_that_opens_the_bucket_and_the_head_may_hand_it_on():
    text = (ROOT / "infra" / "README.md").read_text()
    groups = {
        cloud: yaml.safe_load(file.read_text())["available_node_types"] for cloud, file in FILES.items()
    }
    documents = {
        name: json.loads(found) for name, found in re.findall(r"^    (\w+)='(\{.*?\})'$", text, re.M | re.S)
    }
    roles = re.search(r"for name in (.*); do", text)[1].split()
    with mock_aws():
        iam = boto3.client("iam", region_name="us-west-2")
        for name in roles:  # as the commands do; a policy that is none is refused
            iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(documents["trust"]))
            for policy in ("bucket", "start"):
                document = json.dumps(documents[policy])
                iam.put_role_policy(RoleName=name, PolicyName=policy, PolicyDocument=document)
    profiles = {
        name: kind["node_config"]["IamInstanceProfile"]["Name"] for name, kind in groups["aws"].items()
    }
    head, worker = roles
    assert profiles.pop("head") == head
    assert set(profiles.values()) == {worker}
    allowed = {each["Action"]: each["Resource"] for each in documents["start"]["Statement"]}
    assert allowed["iam:PassRole"].endswith(f":role/{worker}")
    assert "ssm:GetParameters" in allowed  # for the images' names
    assert all(
        "resolve:ssm:/aws/service/" in kind["node_config"]["ImageId"] for kind in groups["aws"].values()
    )
    accounts = [
        kind["node_config"].get("serviceAccounts") for name, kind in groups["gcp"].items() if name != "head"
    ]
    (name,) = re.findall(r"service-accounts create (\S+)", text)
    assert {account["email"].partition("@")[0] for (account,) in accounts} == {name}


def commands(cloud: str, key: str) -> list[str]:
    return yaml.safe_load(FILES[cloud].read_text())[key]


def test_both_clouds_have_the_same_groups_and_set_nodes_up_alike():
    aws, gcp = (yaml.safe_load(file.read_text()) for file in FILES.values())
    for key in (
        "setup_commands",
        "head_start_ray_commands",
        "file_mounts",
        "max_workers",
        "idle_timeout_minutes",
    ):
        assert aws[key] == gcp[key], key
    groups = (
        {name: {**kind, "node_config": None} for name, kind in one["available_node_types"].items()}
        for one in (aws, gcp)
    )
    assert next(groups) == next(groups)


def test_nodes_install_what_setup_needs_whatever_is_there(tmp_path):
    """Stock images have some of it: each of them would be missed later, by `make setup`."""
    sudo = tmp_path / "sudo"
    # The first time another apt holds the lock.
    # It sets up its terminal, as sudo does: a process in the background is stopped at that.
    sudo.write_text(
        f'#!/bin/sh\nstty sane\necho "$@" >> {tmp_path}/asked\n[ $(wc -l < {tmp_path}/asked) -gt 1 ]\n'
    )
    sudo.chmod(0o755)
    for name in ("g++", "make", "python3.12"):
        (tmp_path / name).symlink_to(sudo)
    (tmp_path / "sleep").symlink_to("/bin/true")
    install = commands("aws", "setup_commands")[0]
    master, terminal = pty.openpty()
    node = ["setsid", "--ctty", "--wait", "bash", "-c", f"true; ({install})"]
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    subprocess.run(
        node, stdin=terminal, stdout=terminal, stderr=terminal, env=environment, check=True, timeout=20
    )
    os.close(master)
    os.close(terminal)
    locked, update, asked = (tmp_path / "asked").read_text().splitlines()
    assert locked == update == "apt-get update"
    assert {"install", "g++", "make", "python3.12-venv", "python3.12-dev"} <= set(asked.split())


def test_nodes_get_the_locked_versions_and_the_token_and_listen_on_loopback_only(cluster):
    assert any("make setup" in command for command in cluster["setup_commands"])
    assert "~/.ray/auth_token" in cluster["file_mounts"]
    (start,) = (command for command in cluster["head_start_ray_commands"] if "ray start" in command)
    assert "RAY_AUTH_MODE=token" in start
    assert "--dashboard-host=127.0.0.1" in start
    assert "DREAMER_CLUSTER=~/ray_bootstrap_config.yaml" in start  # the name that `ray up` gives it
