# SPDX-License-Identifier: GPL-2.0-or-later
"""Documents of the API that only the collector knows, as they are described. Those of machines: `wire`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Machines = Annotated[int, Field(ge=0, description="Rounded to a multiple of `rounding`.")]


class VersionMachines(BaseModel):
    """On how many machines a version is."""

    model_config = ConfigDict(extra="forbid")

    version: str
    machines: Machines


class PackageDocument(BaseModel):
    """What may be said of a package; null where a figure is not shown."""

    model_config = ConfigDict(extra="forbid")

    category: str
    name: str
    machines: Machines | None
    fleet: Machines | None = Field(description="All machines.")
    versions: list[VersionMachines] = Field(description="Those that are shown, the newest first.")
    threshold: int = Field(description="Figures of fewer machines are not shown.")
    rounding: int


class KeyDocument(BaseModel):
    """A key that signs packages of a target."""

    model_config = ConfigDict(extra="forbid")

    fingerprint: str
    expires_at: str | None = Field(description="RFC 3339; null: never.")
    url: str = Field(description="Where its public half is, ASCII-armoured.")


class TargetDocument(BaseModel):
    """One binhost tree: packages for one CHOST, profile, set of flags and toolchain."""

    model_config = ConfigDict(extra="forbid")

    name: str
    chost: str
    profile: str
    cflags: str
    cpu: str
    toolchain: str
    description: str
    signatures: Literal["required", "optional"]
    private: bool = Field(description="Whether it asks for a name and a token (HTTP basic).")
    url: str = Field(description="Portage's sync-uri.")
    packages: Annotated[int, Field(ge=0, description="How many the index lists.")]
    timestamp: Annotated[int, Field(ge=0, description="TIMESTAMP of the index; 0 before the first.")]
    keys: list[KeyDocument] = Field(description="The one that signs now comes first.")


class TargetsDocument(BaseModel):
    """Targets by name; private ones only for who may read them."""

    model_config = ConfigDict(extra="forbid")

    targets: list[TargetDocument]


class BuildDocument(BaseModel):
    """One package file of a target."""

    model_config = ConfigDict(extra="forbid")

    category: str
    name: str
    version: str
    build_id: int | None
    path: str = Field(description="Below the target's url.")
    size: int = Field(description="Bytes of the file.")
    installed_size: int = Field(description="Bytes of what it installs.")
    sha1: str
    slot: str
    repository: str
    use: list[str] = Field(description="Enabled flags of its IUSE.")
    keywords: str
    license: str
    chost: str
    cflags: str
    signed_by: str | None = Field(description="Fingerprint; null: not signed.")
    build_time: str
    published_at: str
    published_by: str = Field(description="`admin`, or the UUID of the machine that built it.")


class BuildsDocument(BaseModel):
    """Some of the packages of a target, by category, name and version."""

    model_config = ConfigDict(extra="forbid")

    packages: list[BuildDocument]
    after: str | None = Field(description="What to ask for the next page with; null on the last.")


class UploadDocument(BaseModel):
    """What became of an upload."""

    model_config = ConfigDict(extra="forbid")

    upload: str = Field(description="By which an operator publishes it.")
    target: str
    category: str
    package: str = Field(description="PF: name and version.")
    size: int = Field(description="Bytes.")
    state: Literal["quarantined", "published", "refused"]


class FoundPackageDocument(BaseModel):
    """A package of the catalogue."""

    model_config = ConfigDict(extra="forbid")

    category: str
    name: str
    description: str
    newest: str = Field(description="The newest version that is not live; a live one where there is none.")
    repositories: list[str] = Field(description="Ebuild repositories that have it.")


class SearchDocument(BaseModel):
    """Packages of the catalogue that a search may mean, the likeliest first."""

    model_config = ConfigDict(extra="forbid")

    packages: list[FoundPackageDocument]
    after: str | None = Field(description="What to ask for the next page with; null on the last.")
    nearest: list[str] = Field(description="Names that are written alike, where nothing was found.")
