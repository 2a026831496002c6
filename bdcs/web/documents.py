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


class IntervalDocument(BaseModel):
    """How many machines: a machine may have several versions, so only bounds are known."""

    model_config = ConfigDict(extra="forbid")

    least: Machines
    most: Machines


class LeftDocument(BaseModel):
    """What would be left to who has a version, if all that is named went."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["update", "slot", "nothing", "unknown"] = Field(
        description="Another version in the same slot; only in another slot; none; or no repository here has"
        " the package."
    )
    version: str | None = Field(description="The newest of those.")
    slot: str | None


class AffectedVersionDocument(BaseModel):
    """A version that is named, and that enough machines have."""

    model_config = ConfigDict(extra="forbid")

    version: str
    machines: Machines
    slot: str | None = Field(description="Null: no repository has it any more.")
    left: LeftDocument


class WeekDocument(BaseModel):
    """Machines with a package at the end of a week."""

    model_config = ConfigDict(extra="forbid")

    monday: str = Field(description="The day that the week begins with.")
    machines: Machines | None = Field(description="Null: not shown.")


class PackageExposureDocument(BaseModel):
    """The answer for one package; null where a figure is not shown."""

    model_config = ConfigDict(extra="forbid")

    category: str
    name: str
    asked: str = Field(description="The versions that are named, in words.")
    machines: Machines | None = Field(description="With the package in any version.")
    affected: IntervalDocument | None
    versions: list[AffectedVersionDocument]
    others: list[VersionMachines] = Field(description="Versions that are not named.")
    trend: list[WeekDocument] = Field(description="Of the package in any version, the newest last.")


class ExposureDocument(BaseModel):
    """On how many machines the named versions are; it follows from published figures alone."""

    model_config = ConfigDict(extra="forbid")

    affected: IntervalDocument | None = Field(description="With any of it; null: not shown.")
    fleet: Machines | None = Field(description="All machines.")
    packages: list[PackageExposureDocument]
    threshold: int = Field(description="Figures of fewer machines are not shown.")
    rounding: int


class DependentDocument(BaseModel):
    """A package that would miss what goes; null where a figure is not shown."""

    model_config = ConfigDict(extra="forbid")

    category: str
    name: str
    versions: list[str] = Field(description="Versions that need what goes, and no version that stays.")
    atoms: list[str] = Field(description="What they need.")
    perhaps: bool = Field(description="Whether only with some USE flags, or as one of several.")
    machines: Machines | None = Field(description="With the package in any version.")


class DependentsDocument(BaseModel):
    """Who in the repositories would miss what goes."""

    model_config = ConfigDict(extra="forbid")

    count: int
    first: list[DependentDocument]


class PackageRemovalDocument(PackageExposureDocument):
    """The answer for one package that is to go."""

    dependents: DependentsDocument | None = Field(description="Null: no repository here has the package.")


class RemovalDocument(ExposureDocument):
    """Whom the removal of the named versions would hurt: machines, and packages that depend on them."""

    packages: list[PackageRemovalDocument]  # type: ignore[assignment]  # with dependents, as said
