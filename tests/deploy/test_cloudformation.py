# SPDX-License-Identifier: GPL-2.0-or-later
"""CloudFormation: what cfn-lint says, what we demand, what moto makes of it, and how instances start.

There is no AWS here. docs/deploying-aws.md says what therefore nobody has seen.
"""

import copy
import datetime
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.error import HTTPError

import boto3
import psycopg
import pytest
from moto import mock_aws
from moto.cloudformation.models import Stack

from bdcs.settings import load_settings
from dev.places import ROOT
from tests.deploy import cloudformation_rules as rules
from tests.deploy.cloudformation_rules import DIRECTORY, RULES, TOP, Template, attribute, user_data
from tests.postgresql import running_postgresql
from tests.processes import Process, environment
from tests.waiting import until

pytestmark = pytest.mark.engines

REGION = "us-east-1"  # the one in which nothing is left out; moto also takes it for the zones of all others
ACCOUNT = "123456789012"
DIGEST = "0" * 64
BUCKET = "templates"
EMPTY = Path("/dev/null")
AWS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": str(EMPTY),
    "AWS_SHARED_CREDENTIALS_FILE": str(EMPTY),
}

PARAMETERS = {
    "DomainName": "bdcs.example.org",
    "PackagesDomainName": "packages.example.org",
    "PackagesCertificateArn": f"arn:aws:acm:us-east-1:{ACCOUNT}:certificate/0e",
    "ReleaseBucket": "releases-example",
    "ReleaseKey": "gentwoo/1.tar.gz",
    "ReleaseDigest": DIGEST,
    "CollectorImageId": "ami-12c6146b",
    "SigningKeySecretArn": f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:signing-abc",
    "AdminKeyName": "",
    "BuilderImageId": "ami-12c6146b",
    "BuilderTargets": "amd64,amd64-llvm",
    "BuilderKeySecretArn": f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:builder-abc",
    "BuilderRootKey": "gentwoo/root.tar.zst",
    "BuilderRootDigest": DIGEST,
    "AlarmEmail": "operator@example.org",
    "AuditTrail": "true",
}

NETWORKS = ["10.86.0.0/24", "10.86.1.0/24", "10.86.2.0/24", "10.86.3.0/24"]
"""What AWS cuts out of the VPC; moto does not know `Fn::Cidr`."""

MOTO_LACKS = frozenset(
    {
        "AWS::AmazonMQ::Broker",
        "AWS::CloudFront::CachePolicy",
        "AWS::CloudFront::Distribution",
        "AWS::CloudFront::OriginAccessControl",
        "AWS::CloudTrail::Trail",
        "AWS::CloudWatch::Alarm",
        "AWS::EC2::InstanceConnectEndpoint",
        "AWS::S3::BucketPolicy",
        "AWS::SNS::Subscription",
        "AWS::SNS::TopicPolicy",
        "AWS::SecretsManager::Secret",
    }
)
"""Types that moto cannot make in a stack. Where it learns one, take it out here."""

MOTO_FAILS = frozenset({"AWS::RDS::DBParameterGroup"})
"""Types that it does make; yet a database that names such a group is an error of its own."""
MOTO_DOES_NOT_TELL = frozenset({"CidrBlock", "MasterUserSecret.SecretArn", "TargetGroupFullName"})
"""Attributes of what it makes that moto does not know."""


@pytest.fixture
def found() -> dict[str, Template]:
    return copy.deepcopy(_templates())


@cache
def _templates() -> dict[str, Template]:
    return rules.templates()


# cfn-lint.


def lint(*files: Path) -> subprocess.CompletedProcess[str]:
    # Where a fleet would be, and where nothing is left out.
    regions = ["--regions", "eu-central-1", "us-east-1"]
    command = [str(Path(sys.executable).with_name("cfn-lint")), *regions, "--", *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_cfn_lint_finds_nothing(tmp_path: Path) -> None:
    done = lint(*sorted(DIRECTORY.glob("*.yaml")))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    broken = tmp_path / "data.yaml"
    whole = (DIRECTORY / "data.yaml").read_text()
    broken.write_text(whole.replace("MultiAZ: true", "MultiAZ: true\n      Colour: green"))
    done = lint(broken)
    assert done.returncode != 0
    assert "Colour" in done.stdout


def test_only_that_parts_are_files_is_kept_from_cfn_lint(found: dict[str, Template]) -> None:
    ignored = {name: template.get("Metadata", {}).get("cfn-lint") for name, template in found.items()}
    assert ignored.pop(TOP) == {"config": {"ignore_checks": ["W3002"]}}
    assert not any(ignored.values())
    assert not list(DIRECTORY.rglob(".cfnlintrc*"))


# What we demand, and that each of these demands notices.


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule.__name__))
def test_templates_keep_the_rule(rule: Callable[[Any], list[str]], found: dict[str, Template]) -> None:
    assert rule(found) == []


def at(*path: str | int) -> Callable[[Any], Any]:
    """Go down `path`, which begins with a template's name and a resource's."""
    name, logical, *rest = path

    def go(found: Any) -> Any:
        place = found[name]["Resources"][logical]
        for step in rest:
            place = place[step]
        return place

    return go


def put(value: Any, *path: str | int) -> Callable[[Any], None]:
    """A change: the place at `path` has another value."""
    *above, last = path

    def change(found: Any) -> None:
        at(*above)(found)[last] = value

    return change


def drop(*path: str | int) -> Callable[[Any], None]:
    """A change: there is nothing at `path` any more."""
    *above, last = path

    def change(found: Any) -> None:
        del at(*above)(found)[last]

    return change


def add(value: Any, *path: str | int) -> Callable[[Any], None]:
    """A change: the list at `path` has one more."""
    return lambda found: at(*path)(found).append(value)


def part(value: Any, name: str, *path: str) -> Callable[[Any], None]:
    """A change outside of the resources."""
    *above, last = path

    def change(found: Any) -> None:
        place = found[name]
        for step in above:
            place = place.setdefault(step, {})
        place[last] = value

    return change


START = ("collectors", "InstanceRole", "Properties", "Policies", 0, "PolicyDocument", "Statement")
BUCKET_POLICY = ("storage", "BucketPolicy", "Properties", "PolicyDocument", "Statement")
LAUNCH = ("Template", "Properties", "LaunchTemplateData")
OPEN = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "CidrIp": "0.0.0.0/0"}

MUTATIONS: tuple[tuple[Callable[[Any], list[str]], Callable[[Any], None]], ...] = (
    (rules.no_wild_actions, put("*", *START, 0, "Action")),
    (rules.no_wild_actions, put(["s3:Get*"], *START, 1, "Action")),
    (
        rules.no_wild_actions,
        put("kms:*", "observability", "Key", "Properties", "KeyPolicy", "Statement", 0, "Action"),
    ),
    (rules.no_wild_actions, add({"Effect": "Allow", "NotAction": "iam:PassRole", "Resource": "x"}, *START)),
    (rules.narrow_resources, put("*", *START, 0, "Resource")),
    (rules.narrow_resources, put(["arn:aws:s3:::a", "*"], *START, 1, "Resource")),
    (rules.known_principals, put("*", *BUCKET_POLICY, 1, "Principal")),
    (rules.known_principals, put({"AWS": "*"}, *BUCKET_POLICY, 1, "Principal")),
    (rules.known_principals, drop(*BUCKET_POLICY, 0, "Condition")),
    (rules.known_principals, drop(*BUCKET_POLICY, 1, "Condition")),
    (rules.nothing_public, put(True, "data", "Database", "Properties", "PubliclyAccessible")),
    (rules.nothing_public, drop("broker", "Broker", "Properties", "PubliclyAccessible")),
    (rules.nothing_public, put(True, "network", "PrivateSubnetB", "Properties", "MapPublicIpOnLaunch")),
    (rules.nothing_public, drop("builders", *LAUNCH, "NetworkInterfaces")),
    (
        rules.nothing_public,
        put({"Ref": "PublicSubnets"}, "collectors", "Group", "Properties", "VPCZoneIdentifier"),
    ),
    (rules.closed_ports, add(OPEN, "network", "BalancerGroup", "Properties", "SecurityGroupIngress")),
    (rules.closed_ports, put([OPEN], "network", "DatabaseGroup", "Properties", "SecurityGroupIngress")),
    (rules.closed_ports, drop("network", "DatabaseGroup", "Properties", "SecurityGroupEgress")),
    (rules.closed_ports, put("0.0.0.0/0", "network", "DatabaseFromCollectors", "Properties", "CidrIp")),
    (rules.closed_ports, put(65535, "network", "CollectorFromBalancer", "Properties", "ToPort")),
    (
        rules.stores_for_collectors,
        put(
            {"Ref": "BuilderGroup"},
            "network",
            "DatabaseFromCollectors",
            "Properties",
            "SourceSecurityGroupId",
        ),
    ),
    (
        rules.stores_for_collectors,
        put(
            {"Fn::GetAtt": ["Network", "Outputs.CollectorGroup"]},
            TOP,
            "Data",
            "Properties",
            "Parameters",
            "DatabaseGroup",
        ),
    ),
    (rules.stores_for_collectors, put([], "broker", "Broker", "Properties", "SecurityGroups")),
    (rules.guarded_metadata, put("optional", "collectors", *LAUNCH, "MetadataOptions", "HttpTokens")),
    (rules.guarded_metadata, drop("builders", *LAUNCH, "MetadataOptions")),
    (rules.everything_encrypted, put(False, "data", "Database", "Properties", "StorageEncrypted")),
    (rules.everything_encrypted, drop("storage", "Bucket", "Properties", "BucketEncryption")),
    (
        rules.everything_encrypted,
        put("0", "data", "ParameterGroup", "Properties", "Parameters", "rds.force_ssl"),
    ),
    (
        rules.everything_encrypted,
        put(False, "builders", *LAUNCH, "BlockDeviceMappings", 0, "Ebs", "Encrypted"),
    ),
    (rules.everything_encrypted, drop("observability", "Topic", "Properties", "KmsMasterKeyId")),
    (rules.everything_encrypted, put("HTTP", "collectors", "Https", "Properties", "Protocol")),
    (rules.everything_encrypted, put("HTTP", "collectors", "Collectors", "Properties", "Protocol")),
    (
        rules.closed_buckets,
        put(False, "audit", "TrailBucket", "Properties", "PublicAccessBlockConfiguration", "BlockPublicAcls"),
    ),
    (rules.closed_buckets, drop("storage", "Bucket", "Properties", "LifecycleConfiguration", "Rules", 0)),
    (rules.closed_buckets, drop("storage", "BucketPolicy", "Properties", "PolicyDocument", "Statement", 0)),
    (rules.data_survives, drop("storage", "Bucket", "DeletionPolicy")),
    (rules.data_survives, put(False, "data", "Database", "Properties", "DeletionProtection")),
    (rules.no_plain_secrets, part({"Type": "String"}, "data", "Parameters", "DatabasePassword")),
    (rules.no_plain_secrets, part({"Type": "String", "NoEcho": True}, "data", "Parameters", "Hidden")),
    (rules.no_plain_secrets, put("hunter2hunter2", "broker", "Broker", "Properties", "Users", 0, "Password")),
    (rules.no_plain_secrets, put("hunter2", "data", "Database", "Properties", "MasterUserPassword")),
    (
        rules.nobody_is_logged,
        put("true", "collectors", "Balancer", "Properties", "LoadBalancerAttributes", 0, "Value"),
    ),
    (
        rules.nobody_is_logged,
        put({}, "storage", "Distribution", "Properties", "DistributionConfig", "Logging"),
    ),
    (
        rules.nobody_is_logged,
        drop("audit", "Trail", "Properties", "AdvancedEventSelectors", 1, "FieldSelectors", 2),
    ),
    (rules.updates_wait, drop("builders", "Group", "UpdatePolicy")),
    (rules.updates_wait, drop("collectors", "Group", "CreationPolicy")),
    (rules.updates_wait, put("EC2", "collectors", "Group", "Properties", "HealthCheckType")),
    (
        rules.updates_wait,
        put(1, "collectors", "Group", "UpdatePolicy", "AutoScalingRollingUpdate", "MinInstancesInService"),
    ),
    (rules.builders_drain, drop("builders", "Group", "Properties", "LifecycleHookSpecificationList")),
    (rules.builders_drain, part(3600, "builders", "Mappings", "Patience", "3600", "Hook")),
    (rules.everything_used, part({"Type": "String"}, "audit", "Parameters", "Unused")),
    (rules.everything_used, part({"Fn::Equals": ["a", "b"]}, "audit", "Conditions", "Unused")),
    (rules.everything_used, part({"a": {"b": "c"}}, "audit", "Mappings", "Unused")),
    (rules.parts_fit, part({"Value": "x"}, "audit", "Outputs", "Unused")),
    (rules.parts_fit, lambda found: found[TOP]["Resources"].pop("Audit")),
    (rules.parts_fit, put("x", TOP, "Audit", "Properties", "Parameters", "Unknown")),
    (
        rules.parts_fit,
        put(
            {"Fn::GetAtt": "Storage.Outputs.BucketAnr"}, TOP, "Audit", "Properties", "Parameters", "BucketArn"
        ),
    ),
    (rules.everything_explained, part({"Type": "String", "AllowedPattern": "a"}, TOP, "Parameters", "New")),
    (rules.everything_explained, part("", "data", "Parameters", "Subnets", "Description")),
    (rules.everything_explained, part("5", TOP, "Parameters", "CollectorCount", "Default")),
    (rules.everything_explained, part("", TOP, "Parameters", "BrokerVersion", "Default")),
    (rules.everything_explained, part({"Value": "x"}, TOP, "Outputs", "New")),
)


@pytest.mark.parametrize(
    ("rule", "change"),
    MUTATIONS,
    ids=[f"{number}-{rule.__name__}" for number, (rule, _) in enumerate(MUTATIONS)],
)
def test_the_rule_notices(
    rule: Callable[[Any], list[str]], change: Callable[[Any], None], found: dict[str, Template]
) -> None:
    change(found)
    assert rule(found)


def test_every_rule_was_seen_to_notice() -> None:
    assert {rule for rule, _ in MUTATIONS} == set(RULES)


# Stacks in moto.


def without_unknown(template: Template) -> Template:
    """Return what moto can make of a template; where it names what is left out stands a word instead."""
    omitted = MOTO_LACKS | MOTO_FAILS
    gone = {logical for logical, each in template["Resources"].items() if each["Type"] in omitted}

    def replaced(value: Any) -> Any:
        if isinstance(value, list):
            return [replaced(each) for each in value]
        if not isinstance(value, dict):
            return value
        if value.get("Ref") in gone or (attribute(value) and attribute(value)[0] in gone):
            return f"stands-for-{value.get('Ref') or '-'.join(attribute(value))}"
        if attribute(value) and attribute(value)[1] in MOTO_DOES_NOT_TELL:
            return "not-told"
        if "Fn::Cidr" in value:
            return NETWORKS
        inner = {key: replaced(each) for key, each in value.items()}
        if isinstance(inner.get("Fn::Sub"), str):
            inner["Fn::Sub"] = _without_names(inner["Fn::Sub"], gone)
        elif "Fn::Sub" in inner:
            inner["Fn::Sub"][0] = _without_names(inner["Fn::Sub"][0], gone)
        return inner

    kept = {logical: value for logical, value in template["Resources"].items() if logical not in gone}
    for resource in kept.values():
        waits = [name for name in rules.listed(resource.pop("DependsOn", [])) if name not in gone]
        resource.update({"DependsOn": waits} if waits else {})
        place = resource.get("Properties", {})
        if place.get("DBParameterGroupName", {}).get("Ref") in gone:
            del place["DBParameterGroupName"]
        if "TemplateURL" in place:
            place["TemplateURL"] = f"https://{BUCKET}.s3.amazonaws.com/{place['TemplateURL']}"
    result: Template = replaced({**template, "Resources": kept})
    return result


def _without_names(text: str, gone: set[str]) -> str:
    return re.sub(
        r"\$\{(\w+)(?:\.\w+)*\}", lambda match: "stands-for" if match[1] in gone else match[0], text
    )


def test_moto_lacks_what_we_say(found: dict[str, Template]) -> None:
    from moto.cloudformation.parsing import get_model_map

    used = {each["Type"] for template in found.values() for each in template["Resources"].values()}
    assert used - get_model_map().keys() == MOTO_LACKS


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in AWS.items():
        monkeypatch.setenv(name, value)
    # moto makes stacks in stacks, though does not tell of their outputs.
    monkeypatch.setattr(Stack, "get_cfn_attribute", _output, raising=False)
    monkeypatch.setattr(Stack, "has_cfn_attr", lambda _name: True, raising=False)
    with mock_aws():
        yield


def _output(stack: Stack, name: str) -> Any:
    found = {f"Outputs.{each.key}": each.value for each in stack.output_map.values() if each}
    return found[name]


def create(templates: Mapping[str, Template], **parameters: str) -> Any:
    """Have moto create the whole stack, and return it."""
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    for name, template in templates.items():
        body = json.dumps(without_unknown(template)).encode()
        s3.put_object(Bucket=BUCKET, Key=f"{name}.yaml", Body=body)
    zone = boto3.client("route53").create_hosted_zone(Name="example.org", CallerReference="1")["HostedZone"][
        "Id"
    ]
    certificate = boto3.client("acm").request_certificate(DomainName="bdcs.example.org")["CertificateArn"]
    cloudformation = boto3.client("cloudformation")
    values = {
        **PARAMETERS,
        "CertificateArn": certificate,
        "HostedZoneId": zone.removeprefix("/hostedzone/"),
        **parameters,
    }
    cloudformation.create_stack(
        StackName="gentwoo",
        TemplateURL=f"https://{BUCKET}.s3.amazonaws.com/{TOP}.yaml",
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in values.items()],
        Capabilities=["CAPABILITY_IAM"],
    )
    (stack,) = cloudformation.describe_stacks(StackName="gentwoo")["Stacks"]
    return stack


def made() -> dict[str, set[str]]:
    """Types of what there is now, by stack: its logical name in the top, or nothing for that."""
    cloudformation = boto3.client("cloudformation")
    return {
        stack["StackName"].removeprefix("gentwoo").strip("-").partition("-")[0]: {
            each["ResourceType"]
            for each in cloudformation.list_stack_resources(StackName=stack["StackName"])[
                "StackResourceSummaries"
            ]
        }
        for stack in cloudformation.describe_stacks()["Stacks"]
    }


@pytest.mark.usefixtures("aws")
def test_moto_creates_the_whole_stack(found: dict[str, Template]) -> None:
    stack = create(found)
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    outputs = {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}
    assert outputs.keys() == found[TOP]["Outputs"].keys()
    assert outputs["PublicUrl"] == "https://bdcs.example.org"
    assert outputs["PackagesUrl"] == "https://packages.example.org"
    groups = boto3.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    assert sorted((each["MinSize"], each["MaxSize"]) for each in groups) == [(0, 4), (2, 9)]
    assert not any(each.get("MixedInstancesPolicy") for each in groups)
    (database,) = boto3.client("rds").describe_db_instances()["DBInstances"]
    assert (database["PubliclyAccessible"], database["StorageEncrypted"], database["MultiAZ"]) == (
        False,
        True,
        True,
    )
    networks = {each["CidrBlock"] for each in boto3.client("ec2").describe_subnets()["Subnets"]}
    assert networks.issuperset(NETWORKS)
    assert made().keys() == {"", *found[TOP]["Resources"]}


@pytest.mark.usefixtures("aws")
def test_options_that_are_not_wanted_make_nothing(found: dict[str, Template]) -> None:
    create(
        found,
        BuilderImageId="",
        AuditTrail="false",
        HostedZoneId="",
        PackagesDomainName="",
        PackagesCertificateArn="",
        NatPerZone="false",
    )
    stacks = made()
    assert stacks.keys() == {"", *found[TOP]["Resources"]} - {"Builders", "Audit"}
    assert not any("Route53" in kind for kinds in stacks.values() for kind in kinds)
    assert len(boto3.client("ec2").describe_nat_gateways()["NatGateways"]) == 1


@pytest.mark.usefixtures("aws")
def test_builders_are_spot_instances_where_that_is_wanted(found: dict[str, Template]) -> None:
    create(found, BuilderSpot="true")
    groups = boto3.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    (builders,) = [each for each in groups if each["MinSize"] == 0]
    policy = builders["MixedInstancesPolicy"]
    assert policy["InstancesDistribution"]["OnDemandPercentageAboveBaseCapacity"] == 0
    assert len(policy["LaunchTemplate"]["Overrides"]) == 3


# How instances start.


def shell(template: Template, **values: str) -> str:
    """The commands that an instance gets; placeholders without a value stand for something harmless."""
    return re.sub(
        r"\$\{(!?)([A-Za-z0-9:.]+)\}",
        lambda match: f"${{{match[2]}}}" if match[1] else values.get(match[2], "value"),
        user_data(template),
    )


@pytest.mark.parametrize("name", ["collectors", "builders"])
def test_user_data_is_shell_and_short_enough(name: str, found: dict[str, Template]) -> None:
    text = shell(found[name], BuilderPatience="3600")
    assert text.startswith("#!/bin/bash\n")
    assert len(text.encode()) < 16 * 1024 * 3 // 4
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    broken = subprocess.run(["bash", "-n"], input=f"{text}if", text=True, check=False, capture_output=True)
    assert broken.returncode != 0
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", "-s", "bash", "-"], input=text, text=True, check=True)


def test_release_is_made_by_a_shell_script() -> None:
    subprocess.run(["sh", "-n", str(DIRECTORY / "release.sh")], check=True)
    assert os.access(DIRECTORY / "release.sh", os.X_OK)


@pytest.mark.parametrize("name", ["collectors", "builders"])
def test_user_data_uses_what_a_release_has(name: str, found: dict[str, Template]) -> None:
    text = shell(found[name])
    places = {"systemd": ROOT / "systemd", "instance": DIRECTORY / "instance"}
    mentioned = re.findall(r"(?<![\w/])(systemd|instance)/([\w.-]+)", text)
    assert {where for where, _ in mentioned} == places.keys()
    assert not [each for each in mentioned if not (places[each[0]] / each[1]).is_file()]
    started = set(re.findall(r"[\w-]+\.(?:service|timer)(?!\.d)", text))
    assert started <= {file for _, file in mentioned} | {"gentwoo-credentials.service"}
    for file in DIRECTORY.glob("instance/*.service"):
        for program in re.findall(r"/opt/gentwoo/instance/(\S+\.py)", file.read_text()):
            assert (DIRECTORY / "instance" / program).is_file()


def test_the_signer_may_read_the_settings(found: dict[str, Template]) -> None:
    """They hold passwords, so they are for the group `bdcs`; a signer that cannot read them ends with 78."""
    text = shell(found["collectors"])
    joining = "usermod --append --groups bdcs bdcs-signer"
    assert (
        text.index("systemd-sysusers") < text.index(joining) < text.index("bdcs-signer.service bdcs.service")
    )


def program(name: str) -> ModuleType:
    """One of the programs of instances, as a module."""
    specification = importlib.util.spec_from_file_location(
        f"instance_{name}", DIRECTORY / f"instance/{name}.py"
    )
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def collector() -> ModuleType:
    return program("collector")


def deployment(collector: ModuleType, found: dict[str, Template], **values: str) -> Any:
    """What UserData writes, read as the program reads it."""
    known = {
        "AWS::Region": REGION,
        "DomainName": "bdcs.example.org",
        "BalancerNetworks": "10.86.0.0/24,10.86.1.0/24",
        "Approval": "required",
        "BucketName": "packages-example",
        "DownloadUrl": "https://packages.example.org",
        "DatabaseHost": "db.example.internal",
        "DatabaseMasterSecretArn": "arn:master",
        "DatabaseSecretArn": "arn:database",
        "BrokerEndpoint": "amqps://b-1.mq.example:5671",
        "BrokerSecretArn": "arn:broker",
        "SigningKeySecretArn": "arn:key",
        "WorkRole.Arn": f"arn:aws:iam::{ACCOUNT}:role/work",
        "BuilderGroupName": "gentwoo-Builders-1",
        "BuilderTargets": "amd64,amd64-llvm",
        "BuilderMaximum": "7",
    }
    text = shell(found["collectors"], **{**known, **values})
    (document,) = re.findall(r"<<'END'\n(\{.*?\n\})\nEND\n", text, re.DOTALL)
    return collector.Deployment.of(json.loads(document))


ACCOUNT_AT_DATABASE = {"username": "bdcs", "dbname": "gentwoo", "password": "p@ss/w:rd%&?#'\" \\"}
ACCOUNT_AT_BROKER = {"username": "bdcs", "password": "an/other@%"}


def test_the_collector_reads_the_settings_that_are_written(
    collector: ModuleType, found: dict[str, Template], tmp_path: Path
) -> None:
    told = deployment(collector, found)
    file = tmp_path / "bdcs.toml"
    file.write_text(collector.settings_text(told, ACCOUNT_AT_DATABASE, ACCOUNT_AT_BROKER, tmp_path))
    settings = load_settings({}, {}, file)
    assert settings.address == ("0.0.0.0", 8642)
    assert settings.public_url == "https://bdcs.example.org"
    assert [str(network) for network in settings.trusted_proxies] == ["10.86.0.0/24", "10.86.1.0/24"]
    assert settings.blobs == "s3://packages-example/gentwoo"
    assert settings.s3_download == "https://packages.example.org"
    assert (settings.tls_certificate, settings.tls_key) == (tmp_path / "tls.pem", tmp_path / "tls.key")
    assert settings.bus == "amqps://bdcs:an%2Fother%40%25@b-1.mq.example:5671/"
    (pool,) = settings.capacity
    assert (pool.targets, pool.place) == (("amd64", "amd64-llvm"), "gentwoo-Builders-1")
    assert (pool.limits.most, pool.options["region"]) == (7, REGION)
    asked = psycopg.conninfo.conninfo_to_dict(settings.store)
    assert asked["host"] == "db.example.internal"
    assert asked["password"] == ACCOUNT_AT_DATABASE["password"]
    assert (asked["sslmode"], asked["sslrootcert"]) == ("verify-full", str(tmp_path / "rds.pem"))


def test_without_builders_nobody_starts_any(
    collector: ModuleType, found: dict[str, Template], tmp_path: Path
) -> None:
    told = deployment(collector, found, BuilderGroupName="")
    file = tmp_path / "bdcs.toml"
    file.write_text(collector.settings_text(told, ACCOUNT_AT_DATABASE, ACCOUNT_AT_BROKER))
    assert load_settings({}, {}, file).capacity == ()


def test_the_store_lies_where_the_bucket_lets_it(collector: ModuleType, found: dict[str, Template]) -> None:
    """Rights, lifecycle and CloudFront all name the prefix that the settings name."""
    told = deployment(collector, found)
    text = collector.settings_text(told, ACCOUNT_AT_DATABASE, ACCOUNT_AT_BROKER)
    (prefix,) = re.findall(r'"s3://packages-example/(\w+)"', text)
    storage = found["storage"]["Resources"]
    origin = storage["Distribution"]["Properties"]["DistributionConfig"]["Origins"][0]["OriginPath"]
    assert origin == f"/{prefix}/packages"
    places = [
        rule["Prefix"]
        for rule in storage["Bucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
        if "Prefix" in rule
    ]
    assert places == [f"{prefix}/packages/", f"{prefix}/quarantine/"]
    work = found["collectors"]["Resources"]["WorkRole"]["Properties"]["Policies"][0]
    assert work["PolicyDocument"]["Statement"][0]["Resource"] == {"Fn::Sub": f"${{BucketArn}}/{prefix}/*"}


def test_the_database_is_made_by_who_is_no_superuser(collector: ModuleType, tmp_path: Path) -> None:
    with running_postgresql(tmp_path) as server:
        server.execute("CREATE ROLE master LOGIN CREATEROLE CREATEDB")
        parameters = {"host": "127.0.0.1", "port": server.port, "dbname": "postgres", "user": "master"}
        for _ in range(2):
            collector.prepare_database(parameters, ACCOUNT_AT_DATABASE)
        query = (
            "SELECT rolname FROM pg_database JOIN pg_roles ON pg_roles.oid = datdba WHERE datname = 'gentwoo'"
        )
        assert server.execute(query) == [("bdcs",)]
        rights = "SELECT rolsuper, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname = 'bdcs'"
        assert server.execute(rights) == [(False, False, False)]
        as_collector = {**parameters, "user": "bdcs", "dbname": "gentwoo"}
        with psycopg.connect(**as_collector, password=ACCOUNT_AT_DATABASE["password"]) as connection:  # type: ignore[arg-type]
            connection.execute("CREATE TABLE t (a integer)")


@pytest.mark.usefixtures("aws")
def test_the_collector_gets_the_work_role_from_a_file(
    collector: ModuleType, found: dict[str, Template], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector, "RUN", tmp_path)
    told = deployment(collector, found)
    answer = boto3.client("sts").assume_role(
        RoleArn=told.work_role, RoleSessionName="collector", DurationSeconds=collector.ROLE_LASTS
    )
    collector.write(tmp_path / "credentials.json", collector.credentials_document(answer), group=None)
    assert (tmp_path / "credentials.json").stat().st_mode & 0o777 == 0o600
    (tmp_path / "aws.ini").write_text(collector.aws_config(REGION))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws.ini"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    credentials = boto3.Session().get_credentials()
    given = answer["Credentials"]
    assert credentials.method == "custom-process"
    assert credentials.access_key == given["AccessKeyId"]
    assert credentials.token == given["SessionToken"]
    assert given["Expiration"] > datetime.datetime.now(datetime.UTC)


def test_a_file_is_replaced_as_a_whole(collector: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "a"
    (tmp_path / "a.new").write_text("of one who was killed")
    collector.write(file, "one", group=None)
    collector.write(file, "two", group=None)
    assert file.read_text() == "two"
    assert sorted(tmp_path.iterdir()) == [file]


# How builders leave.


class Metadata(ThreadingHTTPServer):
    """What an instance is told of itself; `answers` has what there is, by path."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.answers = {"instance-id": "i-0123", "autoscaling/target-lifecycle-state": "InService"}
        self.looks = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Answer(BaseHTTPRequestHandler):
    server: Metadata

    def do_PUT(self) -> None:
        self._say(200 if self.path == "/latest/api/token" else 503, "a-token")

    def do_GET(self) -> None:
        self.server.looks += 1
        found = self.server.answers.get(self.path.removeprefix("/latest/meta-data/"))
        if self.headers["X-aws-ec2-metadata-token"] != "a-token":
            self._say(401, "")
        else:
            self._say(404 if found is None else 200, found or "")

    def _say(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Tests have their own."""


@pytest.fixture
def metadata() -> Iterator[Metadata]:
    with Metadata() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    """A directory of commands that only note how they were called, in `calls`."""
    directory = tmp_path / "commands"
    directory.mkdir()
    for name in ("systemctl", "aws"):
        file = directory / name
        file.write_text(f'#!/bin/sh\necho "{name} $*" >>"{tmp_path}/calls"\n')
        file.chmod(0o755)
    return directory


def test_a_builder_that_its_group_ends_builds_to_the_end(
    metadata: Metadata, commands: Path, tmp_path: Path
) -> None:
    path = f"{commands}:{os.environ['PATH']}"
    more = {
        "GENTWOO_METADATA": metadata.url,
        "GENTWOO_GROUP": "builders",
        "GENTWOO_HOOK": "drain",
        "PATH": path,
    }
    command = [sys.executable, str(DIRECTORY / "instance/drain.py")]
    with Process(command, log=tmp_path / "log", env=environment() | more):
        until(lambda: metadata.looks >= 2)
        assert not (tmp_path / "calls").exists()
        metadata.answers["autoscaling/target-lifecycle-state"] = "Terminated"
        calls = until(
            lambda: (tmp_path / "calls").exists() and (tmp_path / "calls").read_text().splitlines()[1:]
        )
        assert calls == [
            "aws autoscaling complete-lifecycle-action --lifecycle-action-result CONTINUE"
            " --auto-scaling-group-name builders --lifecycle-hook-name drain --instance-id i-0123"
        ]
        first = (tmp_path / "calls").read_text().splitlines()[0]
        assert first == "systemctl stop bdcs-builder.service"


def test_a_spot_builder_gives_back_what_it_cannot_end(
    metadata: Metadata, commands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drain = program("drain")
    metadata.answers["spot/instance-action"] = '{"action": "terminate"}'
    assert drain.watch(drain.Metadata(url=metadata.url)) == "spot"
    (commands / "systemctl").write_text(
        f"""#!/bin/sh
echo "systemctl $*" >>"{tmp_path}/calls"
[ "$1" = kill ] && exec touch "{tmp_path}/killed"
while [ ! -e "{tmp_path}/killed" ]; do sleep 0.05; done
"""
    )
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    monkeypatch.setattr(drain, "SPOT_PATIENCE", 0.5)
    drain.stop("spot")
    # Which of them began first is not for sure: stopping is under way for as long as it takes.
    assert set((tmp_path / "calls").read_text().splitlines()) == {
        "systemctl stop bdcs-builder.service",
        "systemctl kill --kill-whom=main --signal=TERM bdcs-builder.service",
    }


def test_metadata_that_does_not_answer_ends_nothing(metadata: Metadata) -> None:
    drain = program("drain")
    told = drain.Metadata(url=metadata.url)
    assert drain.reason(told) is None
    metadata.answers["autoscaling/target-lifecycle-state"] = "Terminated"
    assert drain.reason(told) == "group"
    with pytest.raises(HTTPError, match="503"):
        drain.Metadata(url=f"{metadata.url}/nowhere").get("instance-id")
