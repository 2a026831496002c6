# SPDX-License-Identifier: GPL-2.0-or-later
"""Which flags a compiler, a linker or rustc may be given by somebody else. Pure.

Only what is listed is allowed. Refused is thus what runs a program (`-wrapper`), loads one (`-fplugin=`,
`-specs=`, `-B`, `-fuse-ld=`, `-Wl,-plugin`, `-C linker=`), reads or writes a file (`@file`, `-include`, `-I`,
`-o`, `-dump…`, `-fprofile-use=`, `-Wl,-T`), and what a shell or make would take for a command.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_NUMBER = r"[0-9]{1,6}"
_CPU = r"[A-Za-z0-9][A-Za-z0-9+._-]{0,63}"
_VALUE = r"[a-z0-9][a-z0-9-]{0,31}"

# Options -fNAME and -fno-NAME that only say how code is made.
_NAMES = """
allow-store-data-races asynchronous-unwind-tables auto-inc-dec bit-tests builtin caller-saves
cf-protection code-hoisting combine-stack-adjustments common compare-elim conserve-stack cprop-registers
crossjumping data-sections dce defer-pop delete-null-pointer-checks dse early-inlining exceptions
expensive-optimizations fast-math fat-lto-objects finite-loops float-store forward-propagate
function-sections hardened hoist-adjacent-loads if-conversion if-conversion2 indirect-inlining inline
ivopts jump-tables keep-inline-functions lifetime-dse limit-function-alignment live-range-shrinkage lto
math-errno merge-all-constants merge-constants modulo-sched move-loop-invariants move-loop-stores
non-call-exceptions omit-frame-pointer openmp openmp-simd optimize-sibling-calls optimize-strlen
partial-inlining peel-loops permissive pic PIC pie PIE plt predictive-commoning prefetch-loop-arrays
reciprocal-math ree rename-registers rounding-math rtti section-anchors semantic-interposition short-enums
shrink-wrap signaling-nans signed-char signed-zeros sized-deallocation slp-vectorize strict-aliasing
strict-enums strict-overflow strict-volatile-bitfields thread-jumps threadsafe-statics toplevel-reorder
tracer trapping-math trapv unit-at-a-time unroll-all-loops unroll-loops unsigned-char unswitch-loops
unwind-tables use-linker-plugin variable-expansion-in-unroller vectorize visibility-inlines-hidden web
whole-program wrapv wrapv-pointer zero-initialized-in-bss
"""
_WORDS = frozenset(_NAMES.split())
_FAMILIES = re.compile(
    r"(?:aggressive-loop|align|associative|branch|cse|cx|devirtualize|finite|fp|gcse|graphite|guess-branch|inline"
    r"|ipa|ira|isolate|loop|peephole|printf-return|reorder|rerun-cse|reschedule|sched|schedule|sel-sched|selective"
    r"|shrink-wrap|split|ssa|stack-(?:arrays|check|clash|protector|reuse)|stdarg|store-merging|strict-flex|tree"
    r"|trivial-auto-var|uninit|unconstrained|unsafe-math|vect|version-loops|virtual-function|vpt|zero-call)"
    r"(?:-[a-z0-9-]{1,40})?"
)
_WITH_VALUE = re.compile(
    rf"(?:lto=(?:{_NUMBER}|auto|thin|full|jobserver)|lto-(?:partition|compression-level)={_VALUE}"
    rf"|cf-protection={_VALUE}|visibility={_VALUE}|diagnostics-color=(?:always|never|auto)|excess-precision={_VALUE}"
    rf"|pack-struct={_NUMBER}|max-errors={_NUMBER}|signed-zeros)"
)

_COMPILER = re.compile(
    r"-O(?:[0-3]|s|z|fast|g)?|-pipe|-pthread|-g(?:gdb)?[0-3]?|-gz(?:=(?:zlib|zstd|none))?|-g(?:no-)?(?:dwarf(?:-[2-5])?|"
    r"split-dwarf|record-gcc-switches|variable-location-views|statement-frontiers|column-info|inline-points)"
    rf"|-m(?:arch|tune|cpu)={_CPU}"
    rf"|-m(?:abi|branch-cost|branch-protection|cmodel|float-abi|fp|fpmath|fpu|function-return|harden-sls"
    rf"|indirect-branch|memcpy-strategy|nan|preferred-stack-boundary|prefer-vector-width|sign-return-address"
    rf"|stack-protector-guard|tls-dialect|tls-size|veclibabi)={_CPU}"
    r"|-m(?!llvm|plugin)[a-z0-9][a-z0-9.-]{0,40}"
    r"|-W(?![lap]$)[a-z0-9][a-z0-9+-]{0,60}(?:=[a-z0-9-]{1,30})?"
    r"|-D_FORTIFY_SOURCE=[0-3]|-U_FORTIFY_SOURCE|-D_GLIBCXX_ASSERTIONS(?:=1)?|-D_FILE_OFFSET_BITS=64|-D_TIME_BITS=64"
    r"|-D_LARGEFILE64?_SOURCE"
)
_LINKER = re.compile(
    rf"-O[0-3]|--(?:no-)?as-needed|--sort-common(?:=(?:ascending|descending))?|--sort-section=(?:name|alignment)"
    rf"|--hash-style=(?:gnu|sysv|both)|--(?:no-)?gc-sections|--build-id(?:=(?:sha1|md5|none|fast|tree))?|--relax"
    rf"|--enable-new-dtags|--no-undefined|--pack-dyn-relocs={_VALUE}|--icf=(?:none|safe|all)|--no-copy-dt-needed-entries"
    rf"|--compress-debug-sections=(?:none|zlib|zlib-gnu|zlib-gabi|zstd)|--warn-common|--(?:no-)?rosegment|-s|-S"
    rf"|--(?:no-)?undefined-version|--strip-(?:all|debug)|--lto-O[0-3]|--defsym=__gentoo_check_ldflags__=0"
)
_Z_KEYWORD = re.compile(
    rf"[a-z][a-z0-9-]{{1,40}}(?:=(?:0x)?{_NUMBER})?|max-page-size=(?:0x)?[0-9a-f]{{1,12}}"
)
_RUST = re.compile(
    rf"target-cpu={_CPU}|target-feature=[+-][A-Za-z0-9._-]+(?:,[+-][A-Za-z0-9._-]+)*|opt-level=[0-3sz]"
    rf"|codegen-units={_NUMBER}|lto(?:=(?:thin|fat|off|yes|no|y|n))?|embed-bitcode=(?:yes|no)|debuginfo=[0-2]"
    rf"|strip=(?:none|debuginfo|symbols)|force-frame-pointers=(?:yes|no)|panic=(?:unwind|abort)"
    rf"|relro-level=(?:full|partial|off)|relocation-model={_VALUE}|overflow-checks=(?:on|off|yes|no)"
)


def refused_by_compiler(words: Sequence[str]) -> Iterator[str]:
    """Those of `words`, flags of GCC or Clang, that are not allowed; `-Wl,` passes on what is."""
    return (word for word in words if not _is_compiler_flag(word))


def refused_by_rust(words: Sequence[str]) -> Iterator[str]:
    """Those of `words`, the value of RUSTFLAGS, that are not allowed: all but `-C` with what is listed."""
    rest = iter(words)
    for word in rest:
        option = next(rest, "") if word in ("-C", "--codegen") else word.removeprefix("-C")
        if (word == option and word[:2] != "-C") or not _RUST.fullmatch(option):
            yield word if option in ("", word) else f"{word} {option}"


def _is_compiler_flag(word: str) -> bool:
    if word.startswith("-f"):
        name = word[2:]
        return (
            name.removeprefix("no-") in _WORDS
            or _WITH_VALUE.fullmatch(name) is not None
            or _is_in_family(name.removeprefix("no-"))
        )
    if word.startswith("-Wl,"):
        return _is_for_linker(word.split(",")[1:])
    return _COMPILER.fullmatch(word) is not None


def _is_in_family(name: str) -> bool:
    option, equals, value = name.partition("=")
    return _FAMILIES.fullmatch(option) is not None and (
        not equals or re.fullmatch(r"[a-z0-9][a-z0-9:-]{0,31}", value) is not None
    )


def _is_for_linker(parts: Sequence[str]) -> bool:
    rest = iter(parts)
    for part in rest:
        if part == "-z" or (part.startswith("-z") and len(part) > 2):
            keyword = part[2:] or next(rest, "")
            if not _Z_KEYWORD.fullmatch(keyword):
                return False
        elif not _LINKER.fullmatch(part):
            return False
    return bool(parts)
