# SPDX-License-Identifier: GPL-2.0-or-later
"""How much is accepted: every maximum of the protocol stands here and nowhere else.

Sizes are bytes, durations seconds, lengths characters. A limit may be raised without a new protocol
version, but never lowered: what was valid evidence once must stay so.
"""

from typing import Final

# Segments.
RECORDS_PER_SEGMENT: Final = 1000  # records
SEGMENT_SIZE: Final = 1 << 20  # bytes of the compact form, after Content-Encoding is undone
ENCODED_BODY_SIZE: Final = 1 << 20  # bytes of a request's body as received, before Content-Encoding is undone
HEADER_SIZE: Final = 512  # bytes of a JWS header, decoded

# Values of a record.
INTEGER_MAX: Final = 2**53 - 1  # seq and every other integer: what each JSON library holds exactly (RFC 7493)
TIME_MAX: Final = (
    253_402_300_799  # seconds since the epoch: the end of the year 9999, as RFC 3339 can write it
)
TIME_DELTA_MAX: Final = 2**31 - 1  # seconds
CONCURRENCY_MAX: Final = 10_000.0  # merges at once
CATEGORY_LENGTH: Final = 128  # characters
NAME_LENGTH: Final = 128  # characters
VERSION_LENGTH: Final = 128  # characters, revision included
REPOSITORY_LENGTH: Final = 128  # characters
ATOM_LENGTH: Final = 1024  # characters

# Fields that this version does not know; they are kept as they came.
EXTRA_FIELDS: Final = 16  # fields of one object
EXTRA_SIZE: Final = 2048  # bytes of JSON of all unknown fields of one object
JSON_DEPTH: Final = 8  # objects and arrays within each other, in the value of an unknown field

# Requests and answers.
AUDIENCE_LENGTH: Final = 512  # characters of a collector's public_url
URL_LENGTH: Final = 4096  # characters of a request's full URL
TOKEN_SIZE: Final = 8192  # bytes of a request token
TOKEN_LIFETIME: Final = 60  # seconds from iat to exp
TOKEN_LEEWAY: Final = 10  # seconds by which the clocks of machine and collector may differ unnoticed
TOKEN_ID_MIN: Final = 16  # characters of a jti
TOKEN_ID_MAX: Final = 64  # characters of a jti
REGISTRATION_SIZE: Final = 1024  # bytes of the body of POST /v1/machines
REQUEST_SIZE: Final = 64 << 10  # bytes of any other JSON body
ANSWER_SIZE: Final = 64 << 10  # bytes that a client reads of an answer
RETRY_AFTER_MAX: Final = 3600  # seconds; a client waits no longer, whatever Retry-After says

# Targets of the binhost.
TARGETS: Final = 1000  # targets of one collector
TARGETS_SIZE: Final = 4 << 20  # bytes that a client reads of their list
PROPOSAL_SIZE: Final = 8 << 10  # bytes of the body of POST /v1/targets/proposals
TARGET_NAME_LENGTH: Final = 64  # characters
TARGET_LINE_LENGTH: Final = 512  # characters of CHOST, profile, CPU, toolchain, description
TARGET_FLAGS_LENGTH: Final = 2048  # characters of CFLAGS
KEYS_PER_TARGET: Final = 32  # keys
FINGERPRINT_LENGTH: Final = 64  # characters
PUBLIC_KEY_SIZE: Final = 256 << 10  # bytes of an ASCII-armoured OpenPGP key

# Specifications of builds.
DEPENDENCY_LENGTH: Final = 64 << 10  # characters of one dependency variable
DEPENDENCY_DEPTH: Final = 32  # groups within each other
FLAGS_PER_PACKAGE: Final = 4096  # flags of IUSE, and so of USE
FLAG_LENGTH: Final = 128  # characters
SLOT_LENGTH: Final = 257  # characters of SLOT/SUBSLOT
BINDINGS: Final = 1024  # packages that one is built against

# Builds on request.
PACKAGES_PER_REQUEST: Final = 4000  # packages
ATOMS_PER_REQUEST: Final = 1000  # atoms
BUILD_REQUEST_SIZE: Final = 32 << 20  # bytes of the body of POST /v1/builds
BUILD_ANSWER_SIZE: Final = 32 << 20  # bytes that a client reads of the state of a request
LINE_LENGTH: Final = 1024  # characters of an atom, a CPV, a name
FAILURE_LENGTH: Final = 16 << 10  # characters of why an attempt failed
LOG_PIECE_LENGTH: Final = 256 << 10  # characters of one piece of a log
LOG_REQUEST_SIZE: Final = 2 << 20  # bytes of the body that brings a piece of a log
UPLOADS_PER_ATTEMPT: Final = 1000  # packages

# Metadata that builders make of ebuilds.
EBUILDS_WANTED: Final = 500  # ebuilds of one repository that the collector names at once
ENTRIES_AT_ONCE: Final = 50  # cache entries in one message
ENTRY_LENGTH: Final = 256 << 10  # characters of one
METADATA_SIZE: Final = 8 << 20  # bytes of a message about them

# Packages that are watched, and that leave.
WATCHES_SIZE: Final = 2 << 20  # bytes that a client reads of its watches
LEAVING_SIZE: Final = 2 << 20  # bytes that a client reads of their list

# Searching the catalogue.
SEARCH_LENGTH: Final = 200  # characters of what is searched for
SEARCH_PAGE: Final = 500  # packages of one answer
SEARCH_SIZE: Final = 4 << 20  # bytes that a client reads of it
