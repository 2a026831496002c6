# SPDX-License-Identifier: GPL-2.0-or-later
"""What root does on a collector's instance: `configure` at first, `credentials` again and again.

`deployment.json` beside this directory says what CloudFormation made. `configure` fetches the secrets, makes
the database, writes the collector's settings, and hands the signing key to the signer. `credentials` takes
the work role and leaves its credentials where the collector finds them (`credential_process` in `aws.ini`):
the collector itself cannot reach the instance's role, which may read the signing key.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote

PLACE: Final = Path(__file__).resolve().parent.parent
ETC: Final = Path("/etc/bdcs")
RUN: Final = Path("/run/gentwoo-aws")
ROLE_LASTS: Final = 3600
"""Seconds; AWS allows a role that was taken as another role no longer."""
STARTING: Final = 300
"""Seconds until a new builder takes work: it boots, installs the release, and unpacks the build root."""
PREPARING: Final = 5_417_286_934_113_001
"""Number of the lock under which one collector at a time prepares the database."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What CloudFormation made, and what was chosen."""

    region: str
    public_url: str
    proxies: str
    """Networks of the load balancer, separated by commas."""
    approval: str
    bucket: str
    download: str
    database_host: str
    database_master_secret: str
    database_secret: str
    broker: str
    """amqps://HOST:PORT."""
    broker_secret: str
    signing_key_secret: str
    work_role: str
    builders: str
    """Auto Scaling group of builders; empty where there is none."""
    builder_targets: str
    """Separated by commas."""
    builder_maximum: str

    @classmethod
    def of(cls, document: Mapping[str, str]) -> Self:
        """Return what `document` says. Raises KeyError where something is missing."""
        return cls(**{each.name: document[each.name] for each in fields(cls)})


def settings_text(
    deployment: Deployment, database: Mapping[str, str], broker: Mapping[str, str], etc: Path = ETC
) -> str:
    """Return bdcs.toml; `database` and `broker` are the accounts there."""
    proxies = [network for network in deployment.proxies.split(",") if network]
    values: dict[str, object] = {
        "listen": "0.0.0.0:8642",
        "public_url": deployment.public_url,
        "tls_certificate": str(etc / "tls.pem"),
        "tls_key": str(etc / "tls.key"),
        "trusted_proxies": proxies,
        "approval": deployment.approval,
        "store": store_url(deployment.database_host, database, etc),
        "bus": bus_url(deployment.broker, broker),
        "blobs": f"s3://{deployment.bucket}/gentwoo",
        "s3_region": deployment.region,
        "s3_download": deployment.download,
    }
    if deployment.builders:
        values["capacity"] = [pool(deployment)]
    # A TOML string in double quotes is written as JSON writes one, and so is a list of them.
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())


def pool(deployment: Deployment) -> str:
    """Return the pool of builders, as the setting `capacity` names it."""
    names = "+".join(deployment.builder_targets.split(","))
    limits = f"max={deployment.builder_maximum}&startup={STARTING}"
    return f"{names}=asg:{deployment.builders}?region={deployment.region}&{limits}"


def store_url(host: str, account: Mapping[str, str], etc: Path = ETC) -> str:
    """Return the database's URL: over TLS, with the server's name and authority checked."""
    user, password = quote(account["username"], safe=""), quote(account["password"], safe="")
    authority = quote(str(etc / "rds.pem"))
    return (
        f"postgresql://{user}:{password}@{host}:5432/{account['dbname']}"
        f"?sslmode=verify-full&sslrootcert={authority}"
    )


def bus_url(endpoint: str, account: Mapping[str, str]) -> str:
    """Return the broker's URL, with the account in it."""
    scheme, _, place = endpoint.partition("://")
    user, password = quote(account["username"], safe=""), quote(account["password"], safe="")
    return f"{scheme}://{user}:{password}@{place}/"


def aws_config(region: str) -> str:
    """Return the collector's AWS configuration: whoever wants credentials reads what root left."""
    credentials = RUN / "credentials.json"
    return f"[default]\nregion = {region}\ncredential_process = /bin/cat {credentials}\n"


def credentials_document(answer: Mapping[str, Any]) -> str:
    """Return what STS gave, as `credential_process` wants it."""
    given = answer["Credentials"]
    return json.dumps(
        {
            "Version": 1,
            "AccessKeyId": given["AccessKeyId"],
            "SecretAccessKey": given["SecretAccessKey"],
            "SessionToken": given["SessionToken"],
            "Expiration": given["Expiration"].isoformat(),
        }
    )


def prepare_database(parameters: Mapping[str, object], account: Mapping[str, str]) -> None:
    """Make the collectors' account and its database where they are missing; give it its password.

    `parameters` connect as the master, who is no superuser. Raises psycopg.Error.
    """
    import psycopg
    from psycopg import sql

    user, database = sql.Identifier(account["username"]), sql.Identifier(account["dbname"])
    with psycopg.connect(**parameters, autocommit=True) as connection:  # type: ignore[arg-type]
        connection.execute("SELECT pg_advisory_lock(%s)", [PREPARING])
        query = "SELECT 1 FROM pg_roles WHERE rolname = %s"
        if not connection.execute(query, [account["username"]]).fetchone():
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(user))
        secret = sql.Literal(account["password"])
        connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(user, secret))
        query = "SELECT 1 FROM pg_database WHERE datname = %s"
        if not connection.execute(query, [account["dbname"]]).fetchone():
            connection.execute(
                sql.SQL("GRANT {} TO CURRENT_USER").format(user)
            )  # only then it may be the owner
            connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(database, user))
            connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))


def write(path: Path, text: str, *, group: str | None = "bdcs") -> None:
    """Have `path` hold `text`, whole or not at all, readable to root and `group`."""
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    if group is not None:
        shutil.chown(draft, group=group)
        draft.chmod(0o640)
    draft.replace(path)


def configure(deployment: Deployment) -> None:
    """Make the database's account, write the settings, hand the key to the signer."""
    import boto3

    secrets = boto3.client("secretsmanager", region_name=deployment.region)

    def secret(name: str) -> str:
        return str(secrets.get_secret_value(SecretId=name)["SecretString"])

    account = json.loads(secret(deployment.database_secret))
    master = json.loads(secret(deployment.database_master_secret))
    prepare_database(
        {
            "host": deployment.database_host,
            "dbname": "postgres",
            "user": master["username"],
            "password": master["password"],
            "sslmode": "verify-full",
            "sslrootcert": str(ETC / "rds.pem"),
        },
        account,
    )
    broker = json.loads(secret(deployment.broker_secret))
    write(ETC / "bdcs.toml", settings_text(deployment, account, broker))
    write(ETC / "aws.ini", aws_config(deployment.region))
    key = secret(deployment.signing_key_secret).encode()
    subprocess.run(["/usr/bin/bdcs", "admin", "keys", "import", "-"], input=key, check=True)


def credentials(deployment: Deployment) -> None:
    """Take the work role, and leave its credentials for the collector."""
    import boto3

    answer = boto3.client("sts", region_name=deployment.region).assume_role(
        RoleArn=deployment.work_role, RoleSessionName=os.uname().nodename[:64], DurationSeconds=ROLE_LASTS
    )
    write(RUN / "credentials.json", credentials_document(answer))


ACTIONS: Final = {"configure": configure, "credentials": credentials}


if __name__ == "__main__":
    ACTIONS[sys.argv[1]](Deployment.of(json.loads((PLACE / "deployment.json").read_text("utf-8"))))
