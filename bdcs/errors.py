# SPDX-License-Identifier: GPL-2.0-or-later
"""What can go wrong at the collector, apart from what the protocol itself names (`wire.errors`).

CollectorError
├── ConfigurationError        a setting is wrong; exit code 78
│   ├── NoStore               … or names a place where no store is
│   ├── LibraryMissing        … or needs a library that is not installed
│   ├── NotOfThisEngine       … or an engine that the command is not for
│   ├── InvalidHeader         … or a field of a target's index header has one that no index can hold
│   └── UnknownSetting        … or does not exist; names the nearest that does
├── StoreError
│   ├── StoreUnavailable      not now; 503 with Retry-After, exit code 75
│   │   ├── StoreFull         no space is left; nothing was lost, nothing was accepted
│   │   │   └── BlobsFull     … where package files lie
│   │   ├── BlobsUnavailable  what keeps package files does not answer; nothing was lost
│   │   └── IndexNotWritten   what was published is not in the index yet; the server tries again
│   ├── StoreDamaged          the database, or a value in it, cannot be what was written; exit code 1
│   ├── SchemaMismatch        the store was made by another version; `bdcs schema upgrade`, or newer software
│   ├── BlobMissing           a package file is not there
│   ├── FilesVanished         a package file that is published is not there: no whole backup can be made
│   └── EvidenceDamaged       a stored segment cannot be read back; `bdcs check` says where
├── BackupExists              a backup is to be made, or restored, where something is; exit code 1
├── NoBackup                  what is to be restored is no backup; exit code 1
├── BusUnavailable            the broker does not answer; what it was to be told waits; exit code 75
├── GpgFailed                 gpg or gpgv is missing, was killed, or could not do it; exit code 1
├── SignerUnavailable         nobody signs behind that socket now; exit code 75
├── SignerRefused             the signer does not do that for us, or not with these files; exit code 1
├── NoUsableKey               the signer has no key that it may sign with; exit code 1
├── UnusableKey               a key, or a file with keys, cannot be used for that; exit code 1
├── NoSuchKey                 no key of that fingerprint is there; exit code 1
├── UntrustedSignature        a package is not signed as its target demands; exit code 1
├── InvalidPackage            a file is no package that may be published; `reason` says why; exit code 1
│   └── Unlistable            … since a value of it cannot stand in an index
├── NoSuchTarget              there is no target of that name; exit code 1
├── TargetExists              … or there already is one
├── TargetRefused             a target must not be called that, or have that setting; exit code 2
├── NoSuchProposal            an administrator named a proposal that is not there; exit code 1
├── ProposalDecided           … or one that was decided already
├── TargetNotEmpty            a target with packages is removed only by force; exit code 1
├── NoSuchGeneration          a target has no generation of that number; exit code 1
├── FilesDeleted              a generation cannot come back, since files of it are gone; exit code 1
├── PackageRefused            a file may not be published at that target; `reason` says why; exit code 1
├── NoSuchUpload              no upload of that name waits in quarantine; exit code 1
├── UploadsDiffer             uploads for several targets cannot be one publication; exit code 1
├── PortageFailed             portageq is missing, or does not say what it was asked for; exit code 1
├── NoSuchBuild               an administrator named a build that a target does not have; exit code 1
├── NoSuchToken               … or a token that it does not have
├── TokenExists               … or that it has already
├── NotABuilder               … or a machine that is no builder of that target
├── NoSuchMachine             an administrator named a machine that is not there; exit code 1
├── NoSuchPackage             … or a package that no machine ever had
├── NoSuchWatch               … or a watch that the operator does not have
├── NotLeaving                … or an atom that is not listed as leaving
├── WatchRefused              nothing can be watched, or listed as leaving, that way; exit code 2
├── NoSuchRepository          there is no ebuild repository of that name; exit code 1
├── RepositoryExists          … or there already is one
├── RepositoryRefused         an ebuild repository must not be called that, or come from there; exit code 2
├── RepositoryUnusable        a directory is no ebuild repository that can be read; exit code 1
├── SyncFailed                git or rsync did not bring a repository up to date; exit code 75
├── InvalidCacheEntry         a file is no entry of a metadata cache; `reason` says why
├── NoSuchBuilder             an administrator named a builder that never asked for work; exit code 1
├── CapacityRefused           builders cannot be started or let go that way; exit code 1
├── CapacityUnavailable       who starts builders is away, or busy; exit code 75
├── AlreadyAutoscaling        another process decides about builders now; exit code 75
├── BuilderStopped            a builder cannot go on; exit code as the client's for the same reason
├── LocalBuilderMissing       `bdcs serve` can run no builder on this host; exit code 1
├── BuildRefused              what is to be built has a value that is not let near Portage; exit code 1
├── BuildRootUnusable         no throw-away tree can be made of the build root; exit code 1
├── CannotListen              the address is taken or not ours; exit code 1
│   └── SignerCannotListen    … and it is the signer's socket
├── AlreadyServing            another process serves that data directory; exit code 1
└── NoPermission              the data directory is another user's; exit code 77
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

EXIT_DONE = 0
EXIT_REFUSED = 1
EXIT_USAGE = 2
EXIT_LATER = 75
EXIT_PERMISSION = 77
EXIT_CONFIGURATION = 78


class CollectorError(Exception):
    """Root of the tree; `advice` says what an operator can do about it."""

    exit_code = EXIT_REFUSED
    advice = ""

    def __reduce__(self) -> tuple[Any, ...]:
        """Make it something that another process can hand back (pickle), whatever `__init__` takes."""
        return _again, (type(self), self.args, self.__dict__)


def _again(kind: type[CollectorError], args: tuple[Any, ...], attributes: dict[str, Any]) -> CollectorError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


class ConfigurationError(CollectorError):
    """A setting has a value that cannot be used."""

    exit_code = EXIT_CONFIGURATION
    advice = "see docs/configuration.md"


class UnknownSetting(ConfigurationError):
    """The configuration names a setting that does not exist."""

    def __init__(self, name: str, nearest: str | None, source: str) -> None:
        hint = f"; did you mean {nearest!r}?" if nearest else ""
        super().__init__(f"{source}: unknown setting {name!r}{hint}")
        self.name = name
        self.nearest = nearest


class NoStore(ConfigurationError):
    """No store is where the settings say."""

    advice = "name its directory with --data; `bdcs serve` makes a store where there is none"

    def __init__(self, path: Path) -> None:
        super().__init__(f"no store at {path}")
        self.path = path


class NoCopy(CollectorError):
    """A store that was to become a copy holds something else; `table` names what."""

    advice = "name an empty store, or one that an earlier bdcs copy-store has begun"

    def __init__(self, table: str) -> None:
        super().__init__(f"the second store is no copy of the first: it has {table} of its own")
        self.table = table


class CopyUnfinished(ConfigurationError):
    """The store is a copy that is not finished yet."""

    advice = "stop the collectors of the store that it is a copy of, then run bdcs copy-store with --last"

    def __init__(self) -> None:
        super().__init__("the store is a copy that bdcs copy-store has not finished")


class LibraryMissing(ConfigurationError):
    """A setting wants a library that is not installed; `extra` is the name of GenTwoo's extra that has it."""

    def __init__(self, setting: str, value: str, library: str, extra: str) -> None:
        super().__init__(f"{setting}: {value} needs {library}, which is not installed")
        self.advice = f"install {library}, or have pip do it: pip install 'gentwoo[{extra}]'"


class StoreError(CollectorError):
    """Something about the store."""


class StoreUnavailable(StoreError):
    """The store cannot take this now; nothing of it was kept."""

    exit_code = EXIT_LATER
    advice = "try again later"
    retry_after = 5  # seconds


class StoreFull(StoreUnavailable):
    """No space is left where the store lies; nothing of it was kept."""

    advice = "free some space; the collector recovers by itself"
    retry_after = 30  # seconds


class BlobsFull(StoreFull):
    """No space is left for package files; nothing of what was to be kept is there."""

    advice = "free some space there (`bdcs prune` withdraws packages), then do it again: nothing was kept"

    def __init__(self, place: Path, reason: str) -> None:
        super().__init__(f"{place}: {reason}")
        self.place = place


class BlobsUnavailable(StoreUnavailable):
    """What keeps package files does not answer, or refuses; what it had it has, and nothing was added."""

    advice = "do it again later; if this stays, look at the settings `blobs` and `s3_endpoint`"

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{place}: {reason}")
        self.place = place


class BusUnavailable(CollectorError):
    """The broker cannot take what it is to be told; nobody but who waits for its messages needs it."""

    exit_code = EXIT_LATER
    advice = "it is tried again; if this stays, look at the setting `bus`"


class BlobTaken(StoreError):
    """A package file has that name already, and is not replaced."""

    advice = "do it again: what no row of the store names is removed then"

    def __init__(self, target: str, path: str) -> None:
        super().__init__(f"there is a file {target}/{path} already")
        self.target = target
        self.path = path


class BlobMissing(StoreError):
    """No such package file is there."""

    advice = "`bdcs check` names what is missing"

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no file {name}")
        self.name = name


class BackupExists(CollectorError):
    """There is something where a backup is to be made, or restored to."""

    advice = "name a place where nothing is; a backup is never added to, but --link PREVIOUS shares its files"

    def __init__(self, place: Path) -> None:
        super().__init__(f"{place} is there already")
        self.place = place


class NoBackup(CollectorError):
    """What is to be restored is no backup."""

    advice = "`bdcs backup` makes one; a store that other tools restored needs `bdcs restore` without a place"

    def __init__(self, place: Path) -> None:
        super().__init__(f"{place} holds no backup of a collector")


class RestoreUnfinished(ConfigurationError):
    """A backup was being put in place when that was interrupted."""

    advice = "run `bdcs restore SOURCE` again; what is there already is written over"

    def __init__(self, data: Path) -> None:
        super().__init__(f"{data}: a backup has not been put in place to its end")


class FilesVanished(StoreError):
    """A package file that is published is not there, so no whole backup can be made."""

    advice = "`bdcs check --only binhost` names all that are missing"

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} is published, but has no file")


class NotOfThisEngine(ConfigurationError):
    """A command that works on files of SQLite alone was asked for another engine."""

    advice = "docs/operating.md says how PostgreSQL is backed up and restored"

    def __init__(self) -> None:
        super().__init__(
            "this command copies a store of SQLite; a database server has its own tools for that"
        )


class StoreDamaged(StoreError):
    """The database, or a value in it, cannot be what this program wrote."""

    advice = "restore the store from a backup (docs/operating.md); `bdcs check` says what of it is sound"


class SchemaMismatch(StoreError):
    """The store's schema is not the one this version works with."""

    exit_code = EXIT_CONFIGURATION

    def __init__(self, found: str | None, wanted: str) -> None:
        super().__init__(f"the store has schema {found or 'none'}, this version works with {wanted}")
        self.found = found
        self.wanted = wanted
        self.advice = (
            "newer software made it: install that version, or one that is newer still"
            if found is not None and found > wanted
            else "run `bdcs schema upgrade`, or `bdcs serve`, which does it at its start"
        )


class EvidenceDamaged(StoreError):
    """A stored segment cannot be read back."""

    advice = "run `bdcs check`, and restore the store from a backup"


class AlreadyServing(CollectorError):
    """Another process serves from the same data directory; `written` is what its lock file holds."""

    advice = "stop it first; several collectors need data directories of their own"

    def __init__(self, directory: Path, written: bytes) -> None:
        text = written.strip()
        who = f"process {text.decode()}" if text.isdigit() else "another process"
        super().__init__(f"{directory}: {who} serves from there already")
        self.directory = directory


class OthersServing(CollectorError):
    """Collectors serve from a database that has to be nobody's; `hosts` are where they run."""

    advice = "stop them first: `systemctl stop bdcs` on each of these hosts"

    def __init__(self, place: object, hosts: Sequence[str]) -> None:
        where = ", ".join(hosts) or "hosts that this user may not be told"
        super().__init__(f"{place}: collectors serve from there, on {where}")
        self.hosts = hosts


class InvalidPackage(CollectorError):
    """A file is no binary package, or one that must not be published."""

    advice = "build it again with Portage; nothing of this file was kept"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NoSuchTarget(CollectorError):
    """There is no target of that name."""

    def __init__(self, name: str, names: Sequence[str] = ()) -> None:
        super().__init__(f"there is no target {name}")
        self.name = name
        self.advice = (
            f"there are {', '.join(names)}" if names else "`bdcs target add` makes one; there is none yet"
        )


class TargetExists(CollectorError):
    """There is a target of that name already."""

    advice = "`bdcs target set` changes its settings"

    def __init__(self, name: str) -> None:
        super().__init__(f"there is a target {name} already")
        self.name = name


class TargetRefused(CollectorError):
    """A target must not be called that, or not have that setting."""

    exit_code = EXIT_USAGE


class NoSuchProposal(CollectorError):
    """No proposal of a target has that number."""

    advice = "`bdcs admin proposals list --all` lists them"

    def __init__(self, number: int) -> None:
        super().__init__(f"there is no proposal {number}")
        self.number = number


class ProposalDecided(CollectorError):
    """A proposal was decided before; `how` says how."""

    def __init__(self, number: int, how: str) -> None:
        super().__init__(f"proposal {number} was {how}")
        self.number = number


class TargetNotEmpty(CollectorError):
    """A target that has packages is not removed just so."""

    advice = "--force removes it with all of them"

    def __init__(self, name: str, files: int) -> None:
        super().__init__(f"target {name} has {files} package files")
        self.name = name
        self.files = files


class NoSuchGeneration(CollectorError):
    """The target has no generation of that number."""

    def __init__(self, target: str, number: int) -> None:
        super().__init__(f"target {target} has no generation {number}")
        self.number = number
        self.advice = f"`bdcs target log {target}` shows those that it has"


class FilesDeleted(CollectorError):
    """A generation cannot come back: files of it were withdrawn so long ago that they are gone."""

    advice = "`bdcs target keep` keeps the files of a generation while they are there"

    def __init__(self, number: int, builds: Sequence[str]) -> None:
        shown = ", ".join(builds[:20]) + (f" and {len(builds) - 20} more" if len(builds) > 20 else "")
        super().__init__(f"of generation {number} these files are deleted: {shown}")
        self.number = number
        self.builds = tuple(builds)


class PackageRefused(CollectorError):
    """A file may not be published at a target: it is no sound package, or not one for there."""

    advice = "nothing was published"

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(f"{file}: {reason}")
        self.file = file
        self.reason = reason


class UploadsDiffer(CollectorError):
    """Uploads for several targets cannot be published as one."""

    advice = "publish those of each target by themselves"

    def __init__(self, targets: Sequence[str]) -> None:
        super().__init__(f"these uploads are for different targets: {', '.join(targets)}")
        self.targets = tuple(targets)


class NoSuchUpload(CollectorError):
    """No upload of that name waits to be published."""

    advice = "`bdcs publish --list-uploads` shows those that do"

    def __init__(self, upload: str) -> None:
        super().__init__(f"no upload {upload} waits in quarantine")
        self.upload = upload


class PortageFailed(CollectorError):
    """Portage of this host cannot be asked, or does not answer."""

    advice = "name the directory of `portageq`, or give --chost, --profile and --cflags yourself"


class NoSuchBuild(CollectorError):
    """The newest generation of the target has no such build."""

    def __init__(self, target: str, name: str) -> None:
        super().__init__(f"target {target} lists no build {name}")
        self.name = name
        self.advice = "name it as CATEGORY/NAME-VERSION, with -BUILD_ID behind it for only one of its builds"


class NoSuchToken(CollectorError):
    """The target has no token of that name."""

    advice = "`bdcs admin tokens list` shows those that are"

    def __init__(self, target: str, name: str) -> None:
        super().__init__(f"target {target} has no token {name}")
        self.name = name


class TokenExists(CollectorError):
    """The target has a token of that name already."""

    advice = "revoke it first, or choose another name"

    def __init__(self, target: str, name: str) -> None:
        super().__init__(f"target {target} has a token {name} already")
        self.name = name


class NotABuilder(CollectorError):
    """The machine is no builder of that target."""

    advice = "`bdcs admin builders list` shows those that are"

    def __init__(self, target: str, machine: str) -> None:
        super().__init__(f"machine {machine} is no builder of target {target}")
        self.machine = machine


class NoSuchMachine(CollectorError):
    """No machine of that UUID is registered here."""

    advice = "`bdcs admin machines list` shows those that are"

    def __init__(self, machine: str) -> None:
        super().__init__(f"no machine {machine} is registered here")
        self.machine = machine


class CannotListen(CollectorError):
    """The address to listen on cannot be had."""

    advice = "choose another with --listen HOST:PORT"


class SignerCannotListen(CannotListen):
    """The signer's socket cannot be had."""

    advice = "choose another with --socket PATH"


class NoPermission(CollectorError):
    """A file of the collector may not be read or written by this user."""

    exit_code = EXIT_PERMISSION
    advice = "run this as the user that owns the data directory"

    def __init__(self, path: Path) -> None:
        super().__init__(f"no permission for {path}")
        self.path = path


class GpgFailed(CollectorError):
    """The command gpg or gpgv could not do what it was to do."""

    def __init__(self, reason: str, advice: str = "") -> None:
        super().__init__(reason)
        self.advice = advice


class SignerUnavailable(CollectorError):
    """Nobody answers behind the signer's socket, or not to the end. Nothing was signed; ask again."""

    exit_code = EXIT_LATER
    advice = "start `bdcs signer`, or name its socket by the setting `signer`"


class SignerFailed(SignerUnavailable):
    """The signer answered, and could not do it now."""

    advice = "do it again later; the signer's log says more"


class SignerDiskFull(SignerFailed):
    """The signer could not write the signed package, or gpg its files."""

    advice = "free some space where the collector's data and the signer's home are, then do it again"


class SignerRefused(CollectorError):
    """The signer does not do that for this user, or cannot use the files that it was given."""

    advice = "`bdcs signer --allow USER` names who may ask it"


class NoUsableKey(CollectorError):
    """The signer has no key that is neither retired nor expired; `advice` is the command that helps."""

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(reason)
        self.advice = advice


class UnusableKey(CollectorError):
    """A key or a file with keys cannot be used for what it was given for."""


class NoSuchKey(CollectorError):
    """No key of that fingerprint is there."""

    advice = "`bdcs admin keys list` shows those that are"

    def __init__(self, fingerprint: str) -> None:
        super().__init__(f"there is no key {fingerprint}")
        self.fingerprint = fingerprint


class UntrustedSignature(CollectorError):
    """A package is not signed, not entirely, or not validly by a key that is accepted."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class InvalidHeader(ConfigurationError):
    """The header of a target's index has a field that cannot stand there."""

    advice = "see the header of a target's index in docs/operating.md"


class Unlistable(InvalidPackage):
    """A package has a value that no index can hold; clients would stumble over it."""


class IndexNotWritten(StoreUnavailable):
    """The index could not be written now; what it had is still there."""

    advice = "what was published appears as soon as the server can write the index"


class NoSuchPackage(CollectorError):
    """No machine ever told of that package."""

    advice = "write it as category/name"

    def __init__(self, package: str) -> None:
        super().__init__(f"no machine ever told of a package {package}")


class NoSuchWatch(CollectorError):
    """The operator has no watch of that name."""

    advice = "`bdcs admin watch list` shows them"

    def __init__(self, watch: str) -> None:
        super().__init__(f"no watch {watch} is the operator's")


class NotLeaving(CollectorError):
    """The atom is not on the list of what leaves."""

    advice = "`bdcs admin leaving list` shows it"

    def __init__(self, atom: str) -> None:
        super().__init__(f"{atom} is not listed as leaving")


class WatchRefused(CollectorError):
    """Nothing can be watched, or listed as leaving, that way."""

    exit_code = EXIT_USAGE


class NoSuchRepository(CollectorError):
    """An administrator named an ebuild repository that the catalogue does not have."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(f"the catalogue has no repository {name}")
        self.advice = f"it has {', '.join(known)}" if known else "`bdcs repository add` adds one"


class RepositoryExists(CollectorError):
    """The catalogue has an ebuild repository of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the catalogue has a repository {name} already")


class RepositoryRefused(CollectorError):
    """An ebuild repository must not be called that, or cannot come from there."""

    exit_code = EXIT_USAGE


class RepositoryUnusable(CollectorError):
    """A directory is no ebuild repository, has no metadata cache, or changes while it is read."""


class SyncFailed(CollectorError):
    """A repository could not be brought up to date; what was read of it before still counts."""

    exit_code = EXIT_LATER


class InvalidCacheEntry(CollectorError):
    """A file is no entry of a metadata cache."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NoSuchBuilder(CollectorError):
    """No builder of that name ever asked for work."""

    advice = "the page /builders shows what they are called"

    def __init__(self, name: str) -> None:
        super().__init__(f"no builder is called {name}")
        self.name = name


class CapacityRefused(CollectorError):
    """What starts builders does not do that, or says what is not understood."""

    advice = "see docs/autoscaling.md"


class CapacityForbidden(CapacityRefused):
    """What starts builders knows who asks, and does not let him do that."""


class CapacityMissing(CapacityRefused):
    """What starts builders knows nothing of that name."""


class CapacityUnavailable(CollectorError):
    """What starts builders does not answer, or is busy; builders that are there work on."""

    exit_code = EXIT_LATER
    advice = "it is tried again"


class AlreadyAutoscaling(CollectorError):
    """Another process has the lease for deciding about builders."""

    exit_code = EXIT_LATER
    advice = "one at a time is enough; this one would take over when that ends"

    def __init__(self) -> None:
        super().__init__("another bdcs autoscale works on this store")


class BuilderStopped(CollectorError):
    """A builder cannot go on before somebody acted."""

    def __init__(self, reason: str, *, advice: str = "", exit_code: int = EXIT_REFUSED) -> None:
        super().__init__(reason)
        self.advice = advice
        self.exit_code = exit_code


class LocalBuilderMissing(CollectorError):
    """The collector cannot run a builder of its own on this host."""


class BuildRefused(CollectorError):
    """What is to be built has a value that is not let near Portage."""


class BuildRootUnusable(CollectorError):
    """No throw-away tree can be made of the build root."""

    advice = "see Builders in docs/operating.md"
