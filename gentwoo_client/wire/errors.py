# SPDX-License-Identifier: GPL-2.0-or-later
"""What can be wrong with a message of the protocol, from broad to narrow.

ProtocolError
├── Malformed                400 malformed: the bytes do not say what the protocol allows
│   ├── InvalidBase64
│   ├── InvalidJSON
│   ├── InvalidCPV
│   ├── InvalidVersion
│   ├── InvalidAtom
│   ├── InvalidTime
│   ├── InvalidKey
│   ├── InvalidDependency
│   └── InvalidField         … `field` names the culprit
│       ├── InvalidRecord
│       ├── InvalidSegment
│       ├── InvalidTarget
│       ├── InvalidSpecification
│       └── InvalidParameter
├── BadSignature             400 bad-signature
├── WrongAudience            400 wrong-audience: made for another collector
├── WrongMachine             400 wrong-machine: sent to another machine's address
├── Conflict                 409, carries the head
│   ├── Gap                  … gap: records in between are missing
│   └── Fork                 … fork: the chain went on otherwise
├── TokenReused              409 token-reused: this jti belonged to another request
├── LeaseLost                409 lease-lost: an attempt that is over
├── Unauthorized             401 unauthorized: the token is missing, or not for this request
│   └── WrongTime            401 wrong-time: … or its time has not come or is over
├── PrivateTarget            401 private-target: a name and a token are missing, or wrong
├── Forbidden                403 forbidden
│   ├── AwaitingApproval     … awaiting-approval
│   ├── Quarantined          … quarantined
│   ├── Refused              … refused
│   └── RegistrationClosed   … registration-closed
├── NotFound                 404 not-found
│   └── Unregistered         … unregistered
├── MethodNotAllowed         405 method-not-allowed
├── NotAcceptable            406 not-acceptable
├── RequestTimeout           408 request-timeout
├── Forgotten                410 forgotten
├── PreconditionFailed       412 precondition-failed
├── TooLarge                 413 too-large
├── UnsupportedMedia         415 unsupported-media
├── RangeNotSatisfiable      416 range-not-satisfiable
├── RefusedPackage           422 refused-package: an upload that cannot be published
├── TooManyRequests          429 too-many-requests, carries retry_after
├── Internal                 500 internal
└── Unavailable              503 unavailable, carries retry_after

Each class is one problem of RFC 9457: `slug` (its URN is `problem`), `status`, `title`, and `advice`, which
tells whoever sent the message what to do next. `to_document` makes the problem document, `from_document` the
error again.
"""

from collections.abc import Mapping
from typing import ClassVar

PROBLEM_PREFIX = "urn:gentwoo:problem:"


class ProtocolError(Exception):
    """A message that the protocol refuses; `detail` says what is wrong with this one."""

    slug: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "The collector made a mistake"
    advice: ClassVar[str] = "Try again later; if it stays, tell the operator of the collector."

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title

    @property
    def problem(self) -> str:
        """The URN that stands in `type` of the problem document."""
        return PROBLEM_PREFIX + self.slug

    def to_document(self) -> dict[str, object]:
        """The problem document (RFC 9457) as a mapping ready for JSON."""
        return {
            "type": self.problem,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "advice": self.advice,
            **self.members(),
        }

    def members(self) -> dict[str, object]:
        """What this problem says beyond the members that all have."""
        return {}


class Malformed(ProtocolError):
    """The bytes do not say what the protocol allows."""

    slug = "malformed"
    status = 400
    title = "The request is malformed"
    advice = "Correct what `detail` names; sending the same again gets the same answer."


class InvalidBase64(Malformed):
    """Not base64url as RFC 7515 wants it: without padding, canonical."""


class InvalidJSON(Malformed):
    """Not JSON, or JSON that two libraries could read differently."""


class InvalidCPV(Malformed):
    """Not CATEGORY/NAME-VERSION."""


class InvalidVersion(Malformed):
    """Not a version by the rules of PMS."""


class InvalidAtom(Malformed):
    """Not a package dependency atom by the rules of PMS."""


class InvalidTime(Malformed):
    """Not a time of the form 2026-11-22T00:33:45+00:00."""


class InvalidKey(Malformed):
    """Not a public key that a machine may have."""


class InvalidField(Malformed):
    """One member of a message is wrong: `field` names it, `reason` says what is wrong with it."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason

    def members(self) -> dict[str, object]:
        """The field."""
        return {"field": self.field}


class InvalidRecord(InvalidField):
    """Not a PackageStateChange."""


class InvalidSegment(InvalidField):
    """The payload of a segment, or a header, is not what the protocol allows."""


class InvalidTarget(InvalidField):
    """Not the description of a binhost's target."""


class InvalidDependency(Malformed):
    """Not a dependency specification by the rules of PMS."""


class InvalidSpecification(InvalidField):
    """Not the specification of a build."""


class InvalidParameter(InvalidField):
    """Not a parameter that a build may be given."""


class BadSignature(ProtocolError):
    """The signature does not fit the bytes and the key."""

    slug = "bad-signature"
    status = 400
    title = "The signature is not valid"
    advice = (
        "The key and the bytes do not belong together: if the state directory was copied or restored,"
        " run `gentwoo register --renew`."
    )


class WrongAudience(ProtocolError):
    """The segment was made for another collector."""

    slug = "wrong-audience"
    status = 400
    title = "This was made for another collector"
    advice = "Set `collector` to the collector's public_url, then run `gentwoo register --renew`."


class WrongMachine(ProtocolError):
    """The address names another machine than the message does."""

    slug = "wrong-machine"
    status = 400
    title = "This belongs to another machine"
    advice = "Send a machine's segments and requests to that machine's own address."


class Conflict(ProtocolError):
    """The segment does not continue the machine's chain; `seq` and `segment` are the chain's head."""

    status = 409

    def __init__(self, detail: str = "", *, seq: int, segment: str | None) -> None:
        super().__init__(detail)
        self.seq = seq
        self.segment = segment

    def members(self) -> dict[str, object]:
        """The head."""
        return {"head": {"seq": self.seq, "segment": self.segment}}


class Gap(Conflict):
    """Records between the head and this segment have not arrived."""

    slug = "gap"
    title = "Records before these are missing"
    advice = "Send again from the record after `head.seq`."


class Fork(Conflict):
    """The collector holds other records where this segment begins."""

    slug = "fork"
    title = "The history of this machine went on otherwise"
    advice = (
        "If your own history holds `head`, go on after it. Otherwise the state directory was cloned or"
        " restored: run `gentwoo register --renew`."
    )


class TokenReused(ProtocolError):
    """The `jti` was already used for a request with other contents."""

    slug = "token-reused"
    status = 409
    title = "This token was used for another request"
    advice = "Make a new token, with a new jti, for each new request."


class LeaseLost(ProtocolError):
    """The attempt is over: its lease ran out, it was cancelled, or it came to its end."""

    slug = "lease-lost"
    status = 409
    title = "This attempt is over"
    advice = "Stop building it and throw away what was built; ask for another job."


class Unauthorized(ProtocolError):
    """The token is missing, or does not permit this request."""

    slug = "unauthorized"
    status = 401
    title = "The token does not permit this request"
    advice = "Make a token for exactly this method, URL and body, signed with the machine's key."


class WrongTime(Unauthorized):
    """The token is of another time than the collector's clock shows."""

    slug = "wrong-time"
    title = "The token's time is over or has not come"
    advice = "Take the difference to the Date of this answer into account and try once more; set the clock."


class PrivateTarget(ProtocolError):
    """A private target, asked without the name and token of one who may read it."""

    slug = "private-target"
    status = 401
    title = "This target is private"
    advice = "Give the user name and token that the operator made for it (HTTP basic)."


class Forbidden(ProtocolError):
    """Known, and not allowed."""

    slug = "forbidden"
    status = 403
    title = "This is not allowed"
    advice = "Ask the operator of the collector."


class AwaitingApproval(Forbidden):
    """The operator has not yet approved the machine."""

    slug = "awaiting-approval"
    title = "The operator has not approved this machine yet"
    advice = (
        "Nothing is lost: records wait on the machine. Ask the operator to approve it, then run"
        " `gentwoo push`."
    )


class Quarantined(Forbidden):
    """The operator has set the machine aside."""

    slug = "quarantined"
    title = "The operator has set this machine aside"
    advice = "Nothing is lost: records wait on the machine. Ask the operator why."


class Refused(Forbidden):
    """The operator does not want the machine."""

    slug = "refused"
    title = "The operator has refused this machine"
    advice = "Nothing of it is taken here. Ask the operator why, or register with another collector."


class RegistrationClosed(Forbidden):
    """No machine may newly register."""

    slug = "registration-closed"
    title = "This collector takes no new machines"
    advice = "Ask its operator; machines that are registered already go on as before."


class NotFound(ProtocolError):
    """Nothing is at this address."""

    slug = "not-found"
    status = 404
    title = "Nothing is here"
    advice = "Check the address; /openapi.json lists all of them."


class Unregistered(NotFound):
    """No machine of this UUID is registered."""

    slug = "unregistered"
    title = "This machine is not registered here"
    advice = "Run `gentwoo register`."


class MethodNotAllowed(ProtocolError):
    """The address exists, the method does not."""

    slug = "method-not-allowed"
    status = 405
    title = "This method is not possible here"
    advice = "Use a method that the header Allow names."


class NotAcceptable(ProtocolError):
    """No representation that the client accepts."""

    slug = "not-acceptable"
    status = 406
    title = "No such representation"
    advice = "Accept application/json."


class RequestTimeout(ProtocolError):
    """The request did not arrive in time."""

    slug = "request-timeout"
    status = 408
    title = "The request took too long to arrive"
    advice = "Try again later."


class Forgotten(ProtocolError):
    """The machine asked to be forgotten, and was."""

    slug = "forgotten"
    status = 410
    title = "This machine was forgotten, as it asked"
    advice = "To take part again, run `gentwoo register --renew`."


class PreconditionFailed(ProtocolError):
    """The file is of another version than the request wants (RFC 9110 §13.1.1, §13.1.4)."""

    slug = "precondition-failed"
    status = 412
    title = "The file has changed"
    advice = "Fetch it anew, without If-Match and If-Unmodified-Since."


class TooLarge(ProtocolError):
    """Larger than the protocol allows."""

    slug = "too-large"
    status = 413
    title = "The request is too large"
    advice = "Send less at once; the limits stand in docs/protocol.md."


class UnsupportedMedia(ProtocolError):
    """A Content-Type or Content-Encoding that is not understood here."""

    slug = "unsupported-media"
    status = 415
    title = "The type or encoding of the body is not understood here"
    advice = "Segments are application/jose, plain or zstd; everything else is application/json."


class RangeNotSatisfiable(ProtocolError):
    """No byte of the file is in the range that the request wants (RFC 9110 §15.5.17)."""

    slug = "range-not-satisfiable"
    status = 416
    title = "The file has no such bytes"
    advice = "Content-Range says how long the file is; whoever has as much has all of it."


class RefusedPackage(ProtocolError):
    """An uploaded package that cannot be published; nothing of it was kept."""

    slug = "refused-package"
    status = 422
    title = "The package cannot be published"
    advice = "Mend what `detail` names, and build the package anew; the same file gets the same answer."


class Delayed(ProtocolError):
    """Later, perhaps; `retry_after` is in seconds."""

    def __init__(self, detail: str = "", *, retry_after: int = 60) -> None:
        super().__init__(detail)
        self.retry_after = retry_after

    def members(self) -> dict[str, object]:
        """The seconds to wait, as in the header Retry-After."""
        return {"retry_after": self.retry_after}


class TooManyRequests(Delayed):
    """More than this machine or network may do; `limit` names which setting of the collector says so.

    `allowed` is its value. Both are None where no single setting does.
    """

    slug = "too-many-requests"
    status = 429
    title = "Too many requests"
    advice = "Wait as long as Retry-After says; the operator of the collector may raise the limit."

    def __init__(
        self, detail: str = "", *, retry_after: int = 60, limit: str | None = None, allowed: int | None = None
    ) -> None:
        super().__init__(detail, retry_after=retry_after)
        self.limit = limit
        self.allowed = allowed

    def members(self) -> dict[str, object]:
        """The seconds to wait, and the limit."""
        named = {"limit": self.limit, "allowed": self.allowed}
        return {**super().members(), **{name: value for name, value in named.items() if value is not None}}


class Internal(ProtocolError):
    """The collector made a mistake."""

    slug = "internal"
    status = 500
    title = "The collector made a mistake"
    advice = "Try again later; if it stays, tell the operator of the collector."


class Unavailable(Delayed):
    """The collector cannot do its work at the moment."""

    slug = "unavailable"
    status = 503
    title = "The collector cannot do this at the moment"
    advice = "Wait as long as Retry-After says; nothing is lost meanwhile."


PROBLEMS: Mapping[str, type[ProtocolError]] = {
    kind.slug: kind
    for kind in (
        Malformed,
        BadSignature,
        WrongAudience,
        WrongMachine,
        Gap,
        Fork,
        TokenReused,
        LeaseLost,
        Unauthorized,
        WrongTime,
        PrivateTarget,
        Forbidden,
        AwaitingApproval,
        Quarantined,
        Refused,
        RegistrationClosed,
        NotFound,
        Unregistered,
        MethodNotAllowed,
        NotAcceptable,
        RequestTimeout,
        Forgotten,
        PreconditionFailed,
        TooLarge,
        UnsupportedMedia,
        RangeNotSatisfiable,
        RefusedPackage,
        TooManyRequests,
        Internal,
        Unavailable,
    )
}
"""Every problem that can be answered, by its slug."""

_BY_STATUS: Mapping[int, type[ProtocolError]] = {
    400: Malformed,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    405: MethodNotAllowed,
    406: NotAcceptable,
    408: RequestTimeout,
    410: Forgotten,
    412: PreconditionFailed,
    413: TooLarge,
    415: UnsupportedMedia,
    416: RangeNotSatisfiable,
    422: RefusedPackage,
    429: TooManyRequests,
    503: Unavailable,
}


def from_document(document: object, *, status: int) -> ProtocolError:
    """The error that a problem document of an answer with `status` means.

    Never raises: an unknown type, or what is no problem document at all, becomes the error of its status.
    """
    members = document if isinstance(document, Mapping) else {}
    urn = members.get("type")
    slug = urn.removeprefix(PROBLEM_PREFIX) if isinstance(urn, str) else ""
    detail = members.get("detail")
    text = detail if isinstance(detail, str) else ""
    kind = PROBLEMS.get(slug)
    if kind is None or kind.status != status:
        kind = _BY_STATUS.get(status, Internal)
    if issubclass(kind, Conflict):
        return _conflict(kind, text, members.get("head"))
    if issubclass(kind, Delayed):
        return _delayed(kind, text, members)
    return kind(text)


def _delayed(kind: type[Delayed], detail: str, members: Mapping[str, object]) -> ProtocolError:
    wait = members.get("retry_after")
    given = {"retry_after": wait} if type(wait) is int and wait >= 0 else {}
    if not issubclass(kind, TooManyRequests):
        return kind(detail, **given)
    limit, allowed = members.get("limit"), members.get("allowed")
    return kind(
        detail,
        **given,
        limit=limit if isinstance(limit, str) else None,
        allowed=allowed if type(allowed) is int else None,
    )


def _conflict(kind: type[Conflict], detail: str, head: object) -> ProtocolError:
    if isinstance(head, Mapping):
        seq, segment = head.get("seq"), head.get("segment")
        if type(seq) is int and seq >= 0 and (segment is None or isinstance(segment, str)):
            return kind(detail, seq=seq, segment=segment)
    return Internal("a conflict without a head")
