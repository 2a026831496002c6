# SPDX-License-Identifier: GPL-2.0-or-later
"""Which instructions programs built with a `-march` may use, in the words of /proc/cpuinfo.

After the manual of GCC ("x86 Options") and the x86-64 psABI, whose levels are x86-64-v2 to -v4; compared in
the tests with the compiler that is there. Counted is what ordinary programs use, be it that the compiler
chooses it or that they ask for it by `#ifdef`. Not counted: what only the system uses, what microcode updates
take away again, what merely hints, and what programs have to ask the system for (`NOT_COUNTED`).
"""

from functools import cache
from typing import Final

OPTIONS: Final = {
    "3dnow": "3dnow",
    "3dnowa": "3dnowext",
    "abm": "abm",
    "adx": "adx",
    "aes": "aes",
    "avx": "avx",
    "avx2": "avx2",
    "avx512bf16": "avx512_bf16",
    "avx512bitalg": "avx512_bitalg",
    "avx512bw": "avx512bw",
    "avx512cd": "avx512cd",
    "avx512dq": "avx512dq",
    "avx512er": "avx512er",
    "avx512f": "avx512f",
    "avx512fp16": "avx512_fp16",
    "avx512ifma": "avx512ifma",
    "avx512pf": "avx512pf",
    "avx512vbmi": "avx512vbmi",
    "avx512vbmi2": "avx512_vbmi2",
    "avx512vl": "avx512vl",
    "avx512vnni": "avx512_vnni",
    "avx512vpopcntdq": "avx512_vpopcntdq",
    "avxvnni": "avx_vnni",
    "bmi": "bmi1",
    "bmi2": "bmi2",
    "clflushopt": "clflushopt",
    "clwb": "clwb",
    "cx16": "cx16",
    "f16c": "f16c",
    "fma": "fma",
    "fma4": "fma4",
    "fsgsbase": "fsgsbase",
    "fxsr": "fxsr",
    "gfni": "gfni",
    "lzcnt": "abm",
    "mmx": "mmx",
    "movbe": "movbe",
    "movdir64b": "movdir64b",
    "movdiri": "movdiri",
    "pclmul": "pclmulqdq",
    "popcnt": "popcnt",
    "prfchw": "3dnowprefetch",
    "rdpid": "rdpid",
    "rdrnd": "rdrand",
    "rdseed": "rdseed",
    "sahf": "lahf_lm",
    "sha": "sha_ni",
    "sse": "sse",
    "sse2": "sse2",
    "sse3": "pni",
    "sse4": "sse4_2",
    "sse4.1": "sse4_1",
    "sse4.2": "sse4_2",
    "sse4a": "sse4a",
    "ssse3": "ssse3",
    "tbm": "tbm",
    "vaes": "vaes",
    "vpclmulqdq": "vpclmulqdq",
    "xop": "xop",
    "xsave": "xsave",
}
"""GCC's option without `-m`, and the word of /proc/cpuinfo for what it allows."""

NOT_COUNTED: Final = frozenset(
    {
        "amx-bf16",
        "amx-complex",
        "amx-fp16",
        "amx-int8",
        "amx-tile",
        "avx5124fmaps",
        "avx5124vnniw",
        "avx512vp2intersect",
        "cldemote",
        "clzero",
        "enqcmd",
        "hle",
        "hreset",
        "kl",
        "lwp",
        "mwaitx",
        "pconfig",
        "pku",
        "prefetchi",
        "prefetchwt1",
        "ptwrite",
        "rtm",
        "serialize",
        "sgx",
        "shstk",
        "tsxldtrk",
        "uintr",
        "usermsr",
        "waitpkg",
        "wbnoinvd",
        "widekl",
        "xsavec",
        "xsaveopt",
        "xsaves",
    }
)
"""Options of this kind that say nothing about where a program runs."""

# Each -march: the one that it extends, and what it adds. As GCC 12 to 14 have it.
_MARCH: Final[dict[str, tuple[str, str]]] = {
    "i386": ("", ""),
    "i486": ("", ""),
    "i586": ("", ""),
    "pentium": ("", ""),
    "i686": ("", "cmov"),
    "pentiumpro": ("i686", ""),
    "pentium-mmx": ("", "mmx"),
    "pentium2": ("i686", "mmx fxsr"),
    "pentium3": ("pentium2", "sse"),
    "pentium-m": ("pentium3", "sse2"),
    "pentium4": ("pentium3", "sse2"),
    "prescott": ("pentium4", "pni"),
    "x86-64": ("", "fxsr mmx sse sse2"),
    "x86-64-v2": ("x86-64", "cx16 lahf_lm pni popcnt sse4_1 sse4_2 ssse3"),
    "x86-64-v3": ("x86-64-v2", "abm avx avx2 bmi1 bmi2 f16c fma movbe xsave"),
    "x86-64-v4": ("x86-64-v3", "avx512bw avx512cd avx512dq avx512f avx512vl"),
    "nocona": ("x86-64", "cx16 pni"),
    "core2": ("nocona", "lahf_lm ssse3"),
    "nehalem": ("x86-64-v2", ""),
    "corei7": ("nehalem", ""),
    "westmere": ("nehalem", "pclmulqdq"),
    "sandybridge": ("westmere", "avx xsave"),
    "corei7-avx": ("sandybridge", ""),
    "ivybridge": ("sandybridge", "f16c fsgsbase rdrand"),
    "core-avx-i": ("ivybridge", ""),
    "haswell": ("ivybridge", "abm avx2 bmi1 bmi2 fma movbe"),
    "core-avx2": ("haswell", ""),
    "broadwell": ("haswell", "3dnowprefetch adx rdseed"),
    "skylake": ("broadwell", "aes clflushopt"),
    "skylake-avx512": ("skylake", "avx512bw avx512cd avx512dq avx512f avx512vl clwb"),
    "cascadelake": ("skylake-avx512", "avx512_vnni"),
    "cooperlake": ("cascadelake", "avx512_bf16"),
    "cannonlake": (
        "skylake",
        "avx512bw avx512cd avx512dq avx512f avx512ifma avx512vbmi avx512vl sha_ni",
    ),
    "icelake-client": (
        "cannonlake",
        "avx512_bitalg avx512_vbmi2 avx512_vnni avx512_vpopcntdq gfni rdpid vaes vpclmulqdq",
    ),
    "rocketlake": ("icelake-client", ""),
    "icelake-server": ("icelake-client", "clwb"),
    "tigerlake": ("icelake-client", "clwb movdir64b movdiri"),
    "sapphirerapids": ("icelake-server", "avx512_bf16 avx512_fp16 avx_vnni movdir64b movdiri"),
    "emeraldrapids": ("sapphirerapids", ""),
    "alderlake": (
        "skylake",
        "avx_vnni clwb gfni movdir64b movdiri rdpid sha_ni vaes vpclmulqdq",
    ),
    "raptorlake": ("alderlake", ""),
    "meteorlake": ("alderlake", ""),
    "bonnell": ("core2", "movbe"),
    "atom": ("bonnell", ""),
    "silvermont": ("westmere", "3dnowprefetch movbe rdrand"),
    "slm": ("silvermont", ""),
    "goldmont": ("silvermont", "aes clflushopt fsgsbase rdseed sha_ni xsave"),
    "goldmont-plus": ("goldmont", "rdpid"),
    "tremont": ("goldmont-plus", "clwb gfni movdir64b movdiri"),
    "k8": ("x86-64", "3dnow 3dnowext"),
    "athlon64": ("k8", ""),
    "athlon-fx": ("k8", ""),
    "opteron": ("k8", ""),
    "k8-sse3": ("k8", "pni"),
    "athlon64-sse3": ("k8-sse3", ""),
    "opteron-sse3": ("k8-sse3", ""),
    "amdfam10": ("k8-sse3", "3dnowprefetch abm cx16 lahf_lm popcnt sse4a"),
    "barcelona": ("amdfam10", ""),
    "btver1": ("core2", "3dnowprefetch abm popcnt sse4a xsave"),
    "btver2": ("sandybridge", "3dnowprefetch abm aes bmi1 f16c movbe sse4a"),
    "bdver1": ("westmere", "3dnowprefetch abm aes avx fma4 sse4a xop xsave"),
    "bdver2": ("bdver1", "bmi1 f16c fma tbm"),
    "bdver3": ("bdver2", "fsgsbase"),
    "bdver4": ("bdver3", "avx2 bmi2 movbe rdrand"),
    "znver1": ("goldmont", "abm adx avx avx2 bmi1 bmi2 f16c fma sse4a"),
    "znver2": ("znver1", "clwb rdpid"),
    "znver3": ("znver2", "vaes vpclmulqdq"),
    "znver4": (
        "znver3",
        "avx512_bf16 avx512_bitalg avx512_vbmi2 avx512_vnni avx512_vpopcntdq avx512bw avx512cd avx512dq"
        " avx512f avx512ifma avx512vbmi avx512vl gfni",
    ),
    "znver5": ("znver4", "avx_vnni movdir64b movdiri"),
}

# What programs may use that name no -march, by the first part of CHOST.
_BASELINE: Final = {
    "x86_64": "x86-64",
    "i686": "i686",
    "i586": "i586",
    "i486": "i486",
    "i386": "i386",
}


@cache
def needed_by(march: str) -> frozenset[str] | None:
    """The instructions that `-march=MARCH` allows, as /proc/cpuinfo calls them; None where it is unknown."""
    if march not in _MARCH:
        return None
    extended, added = _MARCH[march]
    return frozenset(added.split()) | (needed_by(extended) or frozenset())


def known_names() -> tuple[str, ...]:
    """Every `-march` that `needed_by` knows."""
    return tuple(_MARCH)


def is_x86(chost: str) -> bool:
    """Whether `chost` is a platform that this table is about."""
    return chost.partition("-")[0] in _BASELINE


def baseline(chost: str) -> str:
    """The `-march` that programs for the x86 platform `chost` have where their flags name none."""
    return _BASELINE[chost.partition("-")[0]]
