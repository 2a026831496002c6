# SPDX-License-Identifier: GPL-2.0-or-later
"""What we demand of our CloudFormation templates. Each rule returns what it found; nothing is good.

A template is what its YAML says, with `!Sub` and the like in their long form (`{"Fn::Sub": …}`).
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cfnlint.decode.cfn_yaml import load  # type: ignore[import-untyped]

from dev.places import ROOT

Template = dict[str, Any]
Templates = Mapping[str, Template]

DIRECTORY = ROOT / "deploy/cloudformation"
DOCUMENT = ROOT / "docs/deploying-aws.md"
TOP = "gentwoo"
PSEUDO = "AWS::"

WITHOUT_RESOURCE = frozenset({"autoscaling:DescribeAutoScalingGroups"})
"""Actions for which AWS knows no resource narrower than all."""
SECRET = re.compile(r"(?i)password|passphrase|secret|token|credential")
PLACEHOLDER = re.compile(r"\$\{([A-Za-z0-9:.]+)\}")


def templates() -> dict[str, Template]:
    """All templates, by name. They may be changed at will."""
    return {path.stem: parsed(path) for path in sorted(DIRECTORY.glob("*.yaml"))}


def parsed(path: Path) -> Template:
    # Through JSON, since the linter's own values remember lines and resist being copied.
    document: Template = json.loads(json.dumps(load(str(path))))
    return document


# Finding things.


def resources(found: Templates, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield where it is, and its properties, of each resource of that type."""
    for name, template in found.items():
        for logical, resource in template["Resources"].items():
            if resource["Type"] == kind:
                yield f"{name}.{logical}", resource.get("Properties", {})


def walk(value: Any) -> Iterator[Any]:
    """Yield `value` and everything within."""
    yield value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for each in inner:
        yield from walk(each)


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def statements(found: Templates) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield where it is, the type of its resource, and each statement of every policy."""
    for name, template in found.items():
        for logical, resource in template["Resources"].items():
            for value in walk(resource):
                if isinstance(value, dict) and "Statement" in value:
                    for statement in listed(value["Statement"]):
                        yield f"{name}.{logical}", resource["Type"], statement


def names_in(value: Any) -> set[str]:
    """Everything that `Ref`, `Fn::GetAtt` and `Fn::Sub` within `value` name."""
    found = set()
    for each in walk(value):
        if not isinstance(each, dict):
            continue
        if "Ref" in each:
            found.add(each["Ref"])
        if "Fn::GetAtt" in each:
            attribute = each["Fn::GetAtt"]
            found.add(attribute.split(".")[0] if isinstance(attribute, str) else attribute[0])
        if "Fn::Sub" in each:
            text, own = each["Fn::Sub"], {}
            if isinstance(text, list):
                text, own = text
            found |= {name.split(".")[0] for name in PLACEHOLDER.findall(text) if name not in own}
    return found


# Rights.


def no_wild_actions(found: Templates) -> list[str]:
    """No action with a `*`, and nothing by exclusion."""
    wrong = []
    for where, _, statement in statements(found):
        if {"NotAction", "NotResource", "NotPrincipal"} & statement.keys():
            wrong.append(f"{where}: rights by exclusion")
        wrong += [
            f"{where}: {action}" for action in listed(statement.get("Action", "*")) if "*" in str(action)
        ]
    return wrong


def narrow_resources(found: Templates) -> list[str]:
    """Nothing is allowed on `*`, save in a key's own policy and where AWS knows nothing narrower."""
    return [
        f"{where}: {statement['Action']} on everything"
        for where, kind, statement in statements(found)
        if statement["Effect"] == "Allow"
        and "*" in listed(statement.get("Resource", []))
        and kind != "AWS::KMS::Key"
        and not set(listed(statement["Action"])) <= WITHOUT_RESOURCE
    ]


def known_principals(found: Templates) -> list[str]:
    """Nothing is allowed to everybody, nor to a service on anybody's behalf; denying it needs a condition."""
    wrong = []
    for where, kind, statement in statements(found):
        principal = statement.get("Principal", {})
        everybody = principal == "*" or (isinstance(principal, dict) and "*" in map(str, principal.values()))
        if everybody and (statement["Effect"] == "Allow" or "Condition" not in statement):
            wrong.append(f"{where}: everybody")
        by_service = isinstance(principal, dict) and "Service" in principal and kind != "AWS::IAM::Role"
        narrowed = any(
            key in json.dumps(statement.get("Condition", {})) for key in ("SourceArn", "SourceAcc")
        )
        if by_service and statement["Effect"] == "Allow" and not narrowed:
            wrong.append(f"{where}: {principal} on anybody's behalf")
    return wrong


# Network.


def nothing_public(found: Templates) -> list[str]:
    """Neither database, broker nor instance has a public address."""
    wrong = []
    for kind in ("AWS::RDS::DBInstance", "AWS::AmazonMQ::Broker"):
        for where, values in resources(found, kind):
            if values.get("PubliclyAccessible") is not False:
                wrong.append(f"{where}: public")
    for where, values in resources(found, "AWS::EC2::Subnet"):
        if values.get("MapPublicIpOnLaunch") is not False:
            wrong.append(f"{where}: gives public addresses")
    for where, data in launch_templates(found):
        for interface in data.get("NetworkInterfaces", [{}]):
            if interface.get("AssociatePublicIpAddress") is not False:
                wrong.append(f"{where}: public address")
    for where, values in resources(found, "AWS::AutoScaling::AutoScalingGroup"):
        if values["VPCZoneIdentifier"] != {"Ref": "PrivateSubnets"}:
            wrong.append(f"{where}: not in the private subnets")
    return wrong


def launch_templates(found: Templates) -> Iterator[tuple[str, dict[str, Any]]]:
    for where, values in resources(found, "AWS::EC2::LaunchTemplate"):
        yield where, values["LaunchTemplateData"]


def closed_ports(found: Templates) -> list[str]:
    """From everywhere the load balancer's 443 and 80 can be reached; all else from one named group alone."""
    wrong = []
    for where, values in resources(found, "AWS::EC2::SecurityGroup"):
        for rule in values.get("SecurityGroupIngress", []):
            ports = (rule.get("IpProtocol"), rule.get("FromPort"), rule.get("ToPort"))
            open_ones = {("tcp", 443, 443), ("tcp", 80, 80)} if where.endswith(".BalancerGroup") else set()
            if ports not in open_ones:
                wrong.append(f"{where}: {rule}")
        if "SecurityGroupEgress" not in values:
            wrong.append(f"{where}: may go anywhere")
    for where, values in resources(found, "AWS::EC2::SecurityGroupIngress"):
        if "SourceSecurityGroupId" not in values or {"CidrIp", "CidrIpv6"} & values.keys():
            wrong.append(f"{where}: not from one group")
        if values.get("FromPort") != values.get("ToPort"):
            wrong.append(f"{where}: more than one port")
    return wrong


def stores_for_collectors(found: Templates) -> list[str]:
    """Database and broker are reached from the collectors alone, and stand in the groups that say so."""
    wrong = []
    for group, port in (("DatabaseGroup", 5432), ("BrokerGroup", 5671)):
        rules = [
            (values["SourceSecurityGroupId"], values["FromPort"])
            for _, values in resources(found, "AWS::EC2::SecurityGroupIngress")
            if values["GroupId"] == {"Ref": group}
        ]
        if rules != [({"Ref": "CollectorGroup"}, port)]:
            wrong.append(f"{group}: {rules}")
        if found["network"]["Outputs"][group]["Value"] != {"Ref": group}:
            wrong.append(f"{group}: another group of that name")
    for stack, group, kind, place in (
        ("Data", "DatabaseGroup", "AWS::RDS::DBInstance", "VPCSecurityGroups"),
        ("Broker", "BrokerGroup", "AWS::AmazonMQ::Broker", "SecurityGroups"),
    ):
        given = found[TOP]["Resources"][stack]["Properties"]["Parameters"][group]
        if attribute(given) != ["Network", f"Outputs.{group}"]:
            wrong.append(f"{stack}: {group} is {given}")
        for where, values in resources(found, kind):
            if values.get(place) != [{"Ref": group}]:
                wrong.append(f"{where}: {values.get(place)}")
    return wrong


def attribute(value: Any) -> list[str]:
    """What `Fn::GetAtt` names, in two parts; nothing where `value` is something else."""
    found = value.get("Fn::GetAtt", []) if isinstance(value, dict) else []
    return found.split(".", 1) if isinstance(found, str) else list(found)


def guarded_metadata(found: Templates) -> list[str]:
    """Instances answer version 2 of their metadata only, and to nobody behind them."""
    return [
        where
        for where, data in launch_templates(found)
        if data.get("MetadataOptions", {}).get("HttpTokens") != "required"
        or data["MetadataOptions"].get("HttpPutResponseHopLimit") != 1
    ]


# Keeping.


def everything_encrypted(found: Templates) -> list[str]:
    """At rest and on the way. RabbitMQ at Amazon MQ is always encrypted and has no property for it."""
    wrong = []
    for where, values in resources(found, "AWS::S3::Bucket"):
        if not values.get("BucketEncryption", {}).get("ServerSideEncryptionConfiguration"):
            wrong.append(f"{where}: plain")
    for where, values in resources(found, "AWS::RDS::DBInstance"):
        if values.get("StorageEncrypted") is not True:
            wrong.append(f"{where}: plain")
    for where, values in resources(found, "AWS::RDS::DBParameterGroup"):
        if values["Parameters"].get("rds.force_ssl") != "1":
            wrong.append(f"{where}: takes plain connections")
    for where, data in launch_templates(found):
        disks = [each.get("Ebs", {}) for each in data.get("BlockDeviceMappings", [])]
        if not disks or any(disk.get("Encrypted") is not True for disk in disks):
            wrong.append(f"{where}: plain disk")
    for where, values in resources(found, "AWS::SNS::Topic"):
        if "KmsMasterKeyId" not in values:
            wrong.append(f"{where}: plain")
    for where, values in resources(found, "AWS::ElasticLoadBalancingV2::Listener"):
        redirects = all(action["Type"] == "redirect" for action in values["DefaultActions"])
        if values["Protocol"] != "HTTPS" and not redirects:
            wrong.append(f"{where}: plain")
    for where, values in resources(found, "AWS::ElasticLoadBalancingV2::TargetGroup"):
        if values["Protocol"] != "HTTPS" or values["HealthCheckProtocol"] != "HTTPS":
            wrong.append(f"{where}: plain")
    for where, values in resources(found, "AWS::CloudFront::Distribution"):
        if values["DistributionConfig"]["DefaultCacheBehavior"]["ViewerProtocolPolicy"] != "https-only":
            wrong.append(f"{where}: plain")
    return wrong


def closed_buckets(found: Templates) -> list[str]:
    """Each bucket blocks public access, aborts uploads that nobody ends, and refuses plain requests."""
    wrong = []
    policies = {
        f"{where.split('.')[0]}.{values['Bucket']['Ref']}": values["PolicyDocument"]["Statement"]
        for where, values in resources(found, "AWS::S3::BucketPolicy")
    }
    for where, values in resources(found, "AWS::S3::Bucket"):
        block = values.get("PublicAccessBlockConfiguration", {})
        if len(block) != 4 or not all(value is True for value in block.values()):
            wrong.append(f"{where}: may become public")
        rules = values.get("LifecycleConfiguration", {}).get("Rules", [])
        if not any("AbortIncompleteMultipartUpload" in rule and "Prefix" not in rule for rule in rules):
            wrong.append(f"{where}: keeps incomplete uploads")
        secure = {"Bool": {"aws:SecureTransport": "false"}}
        if not any(
            each["Effect"] == "Deny" and each.get("Condition") == secure for each in policies.get(where, [])
        ):
            wrong.append(f"{where}: takes plain requests")
    return wrong


def data_survives(found: Templates) -> list[str]:
    """What holds data stays when its stack goes; the database has backups and does not go by mistake."""
    wrong = []
    for name, template in found.items():
        for logical, resource in template["Resources"].items():
            wanted = {"AWS::S3::Bucket": "Retain", "AWS::RDS::DBInstance": "Snapshot"}.get(resource["Type"])
            kept = {resource.get("DeletionPolicy"), resource.get("UpdateReplacePolicy")}
            if wanted is not None and kept != {wanted}:
                wrong.append(f"{name}.{logical}: {kept}")
    for where, values in resources(found, "AWS::RDS::DBInstance"):
        for setting in ("DeletionProtection", "MultiAZ", "CopyTagsToSnapshot"):
            if values.get(setting) is not True:
                wrong.append(f"{where}: {setting}")
        if "BackupRetentionPeriod" not in values:
            wrong.append(f"{where}: no backups")
    return wrong


def no_plain_secrets(found: Templates) -> list[str]:
    """Secrets come from Secrets Manager and nowhere else: no parameter takes one, no property has one."""
    wrong = []
    for name, template in found.items():
        for parameter, values in template.get("Parameters", {}).items():
            if "NoEcho" in values or (SECRET.search(parameter) and not parameter.endswith("Arn")):
                wrong.append(f"{name}: parameter {parameter}")
        for value in walk(template["Resources"]):
            for key, given in value.items() if isinstance(value, dict) else ():
                if re.fullmatch(r"\w*Password", key) and given is not True:
                    text = json.dumps(given)
                    if not text.startswith('{"Fn::Sub": "{{resolve:secretsmanager:'):
                        wrong.append(f"{name}: {key} {text}")
    for where, values in resources(found, "AWS::RDS::DBInstance"):
        if values.get("ManageMasterUserPassword") is not True:
            wrong.append(f"{where}: RDS does not manage the master's password")
    return wrong


def nobody_is_logged(found: Templates) -> list[str]:
    """No log holds addresses of clients: neither of the load balancer, CloudFront, S3 nor the network."""
    wrong = [f"{where}: flow log" for where, _ in resources(found, "AWS::EC2::FlowLog")]
    for where, values in resources(found, "AWS::ElasticLoadBalancingV2::LoadBalancer"):
        set_to = {each["Key"]: each["Value"] for each in values["LoadBalancerAttributes"]}
        for key in ("access_logs.s3.enabled", "connection_logs.s3.enabled"):
            if set_to.get(key) != "false":
                wrong.append(f"{where}: {key}")
    for where, values in resources(found, "AWS::CloudFront::Distribution"):
        if {"Logging", "ViewerMmLogging"} & values["DistributionConfig"].keys():
            wrong.append(f"{where}: logs")
    for where, values in resources(found, "AWS::S3::Bucket"):
        if "LoggingConfiguration" in values:
            wrong.append(f"{where}: logs")
    for where, values in resources(found, "AWS::CloudTrail::Trail"):
        for selector in values["AdvancedEventSelectors"]:
            said = {each["Field"]: each.get("Equals") for each in selector["FieldSelectors"]}
            if said["eventCategory"] == ["Data"] and said.get("readOnly") != ["false"]:
                wrong.append(f"{where}: who reads")
    return wrong


# Starting and changing.


def updates_wait(found: Templates) -> list[str]:
    """A group takes a new template instance by instance, and waits until each says that it works."""
    wrong = []
    for name, template in found.items():
        for logical, resource in template["Resources"].items():
            if resource["Type"] != "AWS::AutoScaling::AutoScalingGroup":
                continue
            rolling = resource.get("UpdatePolicy", {}).get("AutoScalingRollingUpdate", {})
            if not (rolling.get("WaitOnResourceSignals") and "MinInstancesInService" in rolling):
                wrong.append(f"{name}.{logical}: does not wait")
            starts = json.dumps(template["Resources"]["Template"])
            if f"--logical-resource-id {logical} " not in starts or "signal SUCCESS" not in starts:
                wrong.append(f"{name}.{logical}: nobody says so")
    group = found["collectors"]["Resources"]["Group"]
    if group["Properties"]["HealthCheckType"] != "ELB":
        wrong.append("collectors: only the instance is looked at")
    if "ResourceSignal" not in group.get("CreationPolicy", {}):
        wrong.append("collectors: nobody waits for the first ones")
    if rolling_minimum(group) != group["Properties"]["MinSize"]:
        wrong.append("collectors: an update takes some away before others are there")
    return wrong


def rolling_minimum(group: dict[str, Any]) -> Any:
    return group["UpdatePolicy"]["AutoScalingRollingUpdate"]["MinInstancesInService"]


def builders_drain(found: Templates) -> list[str]:
    """Builders end what they build: a hook holds the instance, longer than the builder has patience."""
    template = found["builders"]
    hooks = template["Resources"]["Group"]["Properties"].get("LifecycleHookSpecificationList", [])
    wrong = [
        f"builders: {hook}"
        for hook in hooks
        if hook["LifecycleTransition"] != "autoscaling:EC2_INSTANCE_TERMINATING"
        or f"GENTWOO_HOOK={hook['LifecycleHookName']}\n" not in user_data(template)
    ]
    if len(hooks) != 1:
        wrong.append(f"builders: {len(hooks)} hooks")
    for patience, values in template["Mappings"]["Patience"].items():
        if not int(patience) + 60 < values["Hook"] <= 7200:
            wrong.append(f"builders: {patience} {values}")
    allowed = template["Parameters"]["BuilderPatience"]["AllowedValues"]
    if set(allowed) != template["Mappings"]["Patience"].keys():
        wrong.append("builders: a patience without a hook")
    return wrong


def user_data(template: Template) -> str:
    """The text of an instance's first commands, with its placeholders."""
    given = template["Resources"]["Template"]["Properties"]["LaunchTemplateData"]["UserData"]
    text = given["Fn::Base64"]["Fn::Sub"]
    return str(text[0] if isinstance(text, list) else text)


# The parts fit together.


def everything_used(found: Templates) -> list[str]:
    """Every parameter, condition and mapping is used by its template."""
    wrong = []
    for name, template in found.items():
        body = {part: template.get(part, {}) for part in ("Resources", "Conditions", "Outputs", "Rules")}
        used = names_in(body)
        wrong += [f"{name}: parameter {each}" for each in template.get("Parameters", {}).keys() - used]
        conditions = {
            value
            for part in body.values()
            for each in walk(part)
            if isinstance(each, dict)
            for key, given in each.items()
            for value in (given[:1] if key == "Fn::If" else [given] if key == "Condition" else [])
            if isinstance(value, str)
        }
        wrong += [f"{name}: condition {each}" for each in template.get("Conditions", {}).keys() - conditions]
        maps = {
            each["Fn::FindInMap"][0]
            for each in walk(body)
            if isinstance(each, dict) and "Fn::FindInMap" in each
        }
        wrong += [f"{name}: mapping {each}" for each in template.get("Mappings", {}).keys() - maps]
    return sorted(wrong)


def parts_fit(found: Templates) -> list[str]:
    """The top hands each part its parameters, uses all of its outputs and none besides."""
    wrong = []
    top = found[TOP]
    stacks = {
        logical: Path(resource["Properties"]["TemplateURL"]).stem
        for logical, resource in top["Resources"].items()
        if resource["Type"] == "AWS::CloudFormation::Stack"
    }
    if sorted(stacks.values()) != sorted(found.keys() - {TOP}):
        wrong.append(f"parts: {stacks}")
    asked = {tuple(attribute(value)) for value in walk(top) if attribute(value)}
    for logical, name in stacks.items():
        given = top["Resources"][logical]["Properties"].get("Parameters", {}).keys()
        wrong += [f"{logical}: parameter {each}" for each in given ^ found[name].get("Parameters", {}).keys()]
        used = {each[1].removeprefix("Outputs.") for each in asked if each[0] == logical}
        wrong += [f"{logical}: output {each}" for each in used ^ found[name].get("Outputs", {}).keys()]
    return sorted(wrong)


def everything_explained(found: Templates) -> list[str]:
    """Parameters are described and constrained; those of the top, with their defaults, and its outputs are
    in the document, which names nothing else."""
    wrong = [
        f"{name}: {parameter}"
        for name, template in found.items()
        for parameter, values in template.get("Parameters", {}).items()
        if not values.get("Description")
    ]
    top = found[TOP]
    for parameter, values in top["Parameters"].items():
        constraints = {"AllowedPattern", "AllowedValues", "MinValue"} & values.keys()
        if not constraints and not values["Type"].startswith("AWS::") and parameter != "AdminKeyName":
            wrong.append(f"{TOP}: {parameter} may be anything")
        if not fits(values):
            wrong.append(f"{TOP}: {parameter} may not be its own default")
    groups = top["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    shown = [parameter for group in groups for parameter in group["Parameters"]]
    if sorted(shown) != sorted(top["Parameters"]):
        wrong.append(f"{TOP}: groups {set(shown) ^ top['Parameters'].keys()}")
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \| .+ \|$", DOCUMENT.read_text(), re.MULTILINE))
    wanted = {name: row_of(values) for name, values in top["Parameters"].items()}
    wanted |= dict.fromkeys(top["Outputs"], "output")
    wrong += [f"document: {name}: {text}" for name, text in sorted(wanted.items() ^ rows.items())]
    return wrong


def fits(values: dict[str, Any]) -> bool:
    """Whether a parameter may be what it is by default."""
    pattern = str(values.get("AllowedPattern", ".*"))
    default = str(values.get("Default", ""))
    parts = default.split(",") if values["Type"] == "CommaDelimitedList" else [default]
    return "Default" not in values or all(re.fullmatch(pattern, part) for part in parts)


def row_of(values: dict[str, Any]) -> str:
    """What the document's table says of a parameter's default."""
    if "Default" not in values:
        return "none"
    return f"`{values['Default']}`" if values["Default"] != "" else "empty"


RULES: tuple[Callable[[Templates], list[str]], ...] = (
    no_wild_actions,
    narrow_resources,
    known_principals,
    nothing_public,
    closed_ports,
    stores_for_collectors,
    guarded_metadata,
    everything_encrypted,
    closed_buckets,
    data_survives,
    no_plain_secrets,
    nobody_is_logged,
    updates_wait,
    builders_drain,
    everything_used,
    parts_fit,
    everything_explained,
)
