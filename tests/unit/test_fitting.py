# SPDX-License-Identifier: GPL-2.0-or-later
"""Which targets fit a machine, and what is said of the others."""

import itertools
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from gentwoo_client.binhost.compiler_flags import Unknown, means_the_same, needed_instructions, with_native
from gentwoo_client.binhost.fitting import Fitness, Machine, best, judge
from gentwoo_client.binhost.instruction_sets import NOT_COUNTED, OPTIONS, known_names, needed_by
from gentwoo_client.binhost.machine_facts import explicit_flags, instructions
from gentwoo_client.wire.targets import Target

CHOST = "x86_64-pc-linux-gnu"
PROFILE = "default/linux/amd64/23.0"
V3 = needed_by("x86-64-v3") or frozenset()
HASWELL = needed_by("haswell") or frozenset()


def target(
    name: str = "t", cflags: str = "-O2 -pipe", *, chost: str = CHOST, profile: str = PROFILE, cpu: str = ""
) -> Target:
    return Target(
        name=name,
        chost=chost,
        profile=profile,
        cflags=cflags,
        cpu=cpu,
        toolchain="",
        description="",
        signatures="required",
        private=False,
        url=f"https://bdcs.example.org/binhost/{name}",
        packages=0,
        timestamp=0,
        keys=(),
    )


def machine(
    cflags: str = "-O2 -pipe",
    *,
    has: frozenset[str] = V3,
    chost: str = CHOST,
    profile: str | None = PROFILE,
) -> Machine:
    return Machine(chost=chost, profile=profile, cflags=cflags, instructions=has)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("-O2 -pipe", "-O2"),
        ("-O2 -pipe", "-pipe  -O2"),
        ("-O3 -O2", "-O2"),
        ("-O2 -march=x86-64-v3", "-march=x86-64-v3 -O2 -pipe -mtune=generic"),
        ("-O2 -march=haswell", "-O2 -march=haswell -mtune=haswell"),
        ("-O2 -march=haswell -mavx2 -mno-avx512f -mno-sgx", "-O2 -march=haswell"),
        ("-O2 -g -ggdb3", "-O2 -ggdb3"),
        ("-O2 -flto -flto=auto", "-O2 -flto=auto"),
    ],
)
def test_flags_that_mean_the_same_fit_exactly(ours: str, theirs: str) -> None:
    assert judge(machine(ours), target(cflags=theirs)).fitness is Fitness.EXACT


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("-O2", "-O3"),
        ("-O2 -march=haswell", "-O2 -march=haswell -mtune=skylake"),
        ("-O2 -march=haswell", "-O2 -march=haswell -mno-avx2"),
        ("-O2 -march=haswell -mavx512f", "-O2 -march=haswell"),
        ("-O2", "-O2 -fno-plt"),
        ("-O2", "-O2 -ggdb3"),
        ("-O2", "-O2 -flto"),
    ],
)
def test_flags_that_differ_do_not(one: str, other: str) -> None:
    assert not means_the_same(CHOST, one, other)


@pytest.mark.parametrize(
    "cflags",
    [
        "-O2 -march=x86-64",
        "-O2",
        "",
        "-O3 -march=x86-64-v3 -mtune=znver4",
        "-march=nehalem -mavx2",
        "-msse4.2",
    ],
)
def test_a_subset_of_the_cpu_is_compatible(cflags: str) -> None:
    fit = judge(machine("-O2 -march=haswell"), target(cflags=cflags))
    assert fit.fitness is Fitness.COMPATIBLE
    assert fit.needed <= V3


@pytest.mark.parametrize(
    ("offered", "why"),
    [
        (target(chost="aarch64-unknown-linux-gnu"), "CHOST differs: aarch64-unknown-linux-gnu"),
        (target(profile="default/linux/amd64/23.0/llvm"), "profile differs: default/linux/amd64/23.0/llvm"),
        (
            target(cflags="-march=x86-64-v4"),
            "needs avx512bw, avx512cd, avx512dq, avx512f, avx512vl that this",
        ),
        (target(cflags="-march=x86-64 -mavx512f"), "needs avx512f that this CPU lacks"),
        (target(cflags="-march=x86-64", cpu="x86-64-v4"), "needs avx512bw"),
        (target(cflags="-march=z80"), "it is not known which CPUs run -march=z80"),
        (target(cflags="-march=native"), "-march=native stands for the CPU that built"),
        (target(cflags="-march=x86-64 -mfuture"), "it is not known which CPUs run -mfuture"),
        (
            target(chost="i686-pc-linux-gnu", profile="x"),
            "CHOST differs: i686-pc-linux-gnu; profile differs: x",
        ),
    ],
)
def test_an_unfit_target_says_why(offered: Target, why: str) -> None:
    fit = judge(machine(), offered)
    assert fit.fitness is Fitness.UNFIT
    assert why in fit.reason
    assert "\n" not in fit.reason


def test_flags_of_an_unknown_cpu_fit_only_exactly() -> None:
    cflags = "-O2 -mcpu=neoverse-n1"
    arm = "aarch64-unknown-linux-gnu"
    assert judge(machine(cflags, chost=arm), target(cflags=cflags, chost=arm)).fitness is Fitness.EXACT
    unfit = judge(machine("-O2", chost=arm), target(cflags=cflags, chost=arm))
    assert unfit.fitness is Fitness.UNFIT
    assert "-mcpu=neoverse-n1" in unfit.reason
    assert judge(machine("-O3", chost=arm), target(cflags="-O2", chost=arm)).fitness is Fitness.COMPATIBLE


def test_a_profile_of_its_own_fits_nothing() -> None:
    fit = judge(machine(profile=None), target())
    assert fit.fitness is Fitness.UNFIT
    assert PROFILE in fit.reason


def test_without_cpuinfo_only_exact_ones_fit() -> None:
    assert judge(machine(has=frozenset()), target(cflags="-O2")).fitness is Fitness.EXACT
    fit = judge(machine(has=frozenset()), target(cflags="-march=x86-64-v2"))
    assert fit.fitness is Fitness.UNFIT
    assert "is not known" in fit.reason


def names(cflags: str, *offered: Target) -> Sequence[str]:
    fits = [judge(machine(cflags, has=HASWELL), each) for each in offered]
    return [fit.target.name for fit in best(fits)]


def test_the_best_is_exact_or_makes_most_of_the_cpu() -> None:
    v1 = target("v1", "-O2 -march=x86-64")
    v2 = target("v2", "-O2 -march=x86-64-v2")
    v3 = target("v3", "-O2 -march=x86-64-v3")
    v4 = target("v4", "-O2 -march=x86-64-v4")
    assert names("-O2 -march=native", v1, v2, v3, v4) == ["v3"]
    assert names("-O2 -march=x86-64-v2", v1, v2, v3, v4) == ["v2"]
    assert names("-O2 -march=native", v4) == []


def test_equally_good_ones_are_all_named() -> None:
    one, other = target("one", "-O2 -march=x86-64-v2"), target("other", "-O3 -march=x86-64-v2")
    assert names("-Os", one, other) == ["one", "other"]
    assert names("-O3 -march=x86-64-v2", one, other) == ["other"]
    assert names("-O2", target("a"), target("b")) == ["a", "b"]


def test_levels_contain_each_other() -> None:
    levels = [needed_by(name) or frozenset() for name in ("x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4")]
    assert all(low < high for low, high in itertools.pairwise(levels))
    assert needed_by("z80") is None


GCC = str(shutil.which("gcc"))
OF_32_BITS = ("i", "pentium", "prescott")


def known_to_gcc() -> list[str]:
    """Those of our names that the compiler here knows too."""
    done = subprocess.run([GCC, "-Q", "--help=target"], capture_output=True, text=True, check=True)
    known = re.search(r"arguments for -march= option:\n(.*)", done.stdout)
    assert known
    return sorted(set(known_names()) & set(known[1].split()))


def gcc_allows(march: str) -> frozenset[str]:
    """What the compiler here says of `march`, without what is not counted."""
    is_32 = march.startswith(OF_32_BITS) and not march.startswith(("icelake", "ivybridge"))
    argv = [GCC, f"-march={march}", "-m32" if is_32 else "-m64", "-Q", "--help=target"]
    output = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    enabled = re.findall(r"^  -m(\S+)\s+\[enabled\]", output, re.MULTILINE)
    found = frozenset(OPTIONS[option] for option in enabled if option in OPTIONS)
    return found - {"lahf_lm"} if is_32 else found  # which only 64 bits made an option


def test_the_table_is_what_the_compiler_has() -> None:
    """`cmov` is no option of its own; the rest must be equal."""
    names = known_to_gcc()
    assert len(names) > 50
    wrong = {name: gcc_allows(name) ^ ((needed_by(name) or frozenset()) - {"cmov"}) for name in names}
    assert {name: differing for name, differing in wrong.items() if differing} == {}


def test_native_is_resolved_by_the_compiler() -> None:
    explicit = explicit_flags(CHOST, "-O2 -march=native -pipe")
    assert "native" not in explicit
    assert "--param" not in explicit
    assert explicit.startswith("-O2 -march=")
    assert explicit.endswith("-pipe")
    needed = needed_instructions(CHOST, explicit)
    assert isinstance(needed, Unknown) or needed <= instructions()


def test_without_a_compiler_native_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda *_arguments, **_more: None)
    assert explicit_flags(CHOST, "-O2 -march=native") == "-O2 -march=native"


def test_resolved_flags_stand_where_native_stood() -> None:
    resolved = ["-march=haswell", "-mno-sgx"]
    assert (
        with_native("-O2 -march=native -mtune=native -pipe", resolved) == "-O2 -march=haswell -mno-sgx -pipe"
    )
    assert with_native("-O2", resolved) == "-O2"


def test_cpus_that_differ_have_in_common_what_counts(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nflags\t\t: fpu sse avx2\n\nprocessor\t: 1\nflags\t\t: fpu sse\n")
    assert instructions(cpuinfo) == {"fpu", "sse"}
    assert instructions(tmp_path / "absent") == frozenset()
    cpuinfo.write_text("Features\t: fp asimd\n")
    assert instructions(cpuinfo) == {"fp", "asimd"}


def test_no_option_is_both_counted_and_not() -> None:
    assert not OPTIONS.keys() & NOT_COUNTED
