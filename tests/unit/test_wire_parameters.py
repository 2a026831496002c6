# SPDX-License-Identifier: GPL-2.0-or-later
"""Parameters from outside: what is allowed, and everything that could run a program and is not."""

import os
import shutil
import subprocess

import pytest

from gentwoo_client.wire import limits
from gentwoo_client.wire.cpv import CPV
from gentwoo_client.wire.errors import InvalidParameter
from gentwoo_client.wire.parameters import (
    FLAGS,
    Parameters,
    check_build_atom,
    check_chost,
    check_flags,
    check_keywords,
    check_licenses,
    check_profile,
    check_use,
    check_wanted_atom,
    problems,
)

DOCUMENT: dict[str, object] = {
    "chost": "x86_64-pc-linux-gnu",
    "arch": "amd64",
    "profile": "default/linux/amd64/23.0/desktop",
    "cflags": "-O2 -pipe -march=x86-64-v3",
    "cxxflags": "-O2 -pipe -march=x86-64-v3",
    "fflags": "-O2",
    "fcflags": "-O2",
    "ldflags": "-Wl,-O1 -Wl,--as-needed",
    "rustflags": "-C target-cpu=x86-64-v3",
    "keywords": ["amd64", "~amd64"],
    "licenses": ["-*", "@FREE", "linux-fw-redistributable"],
    "use": ["X", "cpu_flags_x86_avx2", "python_targets_python3_12"],
}

GOOD_FLAGS = (
    # Gentoo's wiki: Safe CFLAGS, GCC optimization, LTO, Hardened; and what GCC makes of native
    "-O2 -pipe",
    "-O3 -march=znver3 -mtune=znver3 -pipe -fomit-frame-pointer",
    "-march=x86-64-v3 -mno-avx512f -msse4.2 -mcx16 -msahf -mabm -mno-sgx",
    "-O2 -march=armv8-a+crc+crypto -mcpu=cortex-a72.cortex-a53 -mfloat-abi=hard -mfpu=neon-vfpv4",
    "-Ofast -fno-fast-math -fgraphite-identity -floop-nest-optimize -fipa-pta -fno-semantic-interposition",
    "-flto -flto=auto -flto=4 -flto=thin -fno-lto -ffat-lto-objects -fuse-linker-plugin -flto-partition=one",
    "-Werror=odr -Werror=lto-type-mismatch -Werror=strict-aliasing -Wno-error=format-security -Wformat",
    "-fstack-protector-strong -fstack-clash-protection -fcf-protection=full -D_FORTIFY_SOURCE=3",
    "-U_FORTIFY_SOURCE -D_GLIBCXX_ASSERTIONS -ftrivial-auto-var-init=zero -fzero-call-used-regs=used-gpr",
    "-g -g3 -ggdb3 -gz=zstd -gdwarf-5 -gsplit-dwarf -Os -Oz -Og -O",
    "-fno-plt -fPIC -fPIE -fno-common -fno-strict-aliasing -fwrapv -mbranch-protection=standard",
    "-ftree-vectorize -fno-tree-loop-distribute-patterns -falign-functions=32 -fvect-cost-model=dynamic",
    "-Wl,-O1 -Wl,--as-needed -Wl,-z,now -Wl,-z,pack-relative-relocs -Wl,--hash-style=gnu -Wl,-O1,--as-needed",
    "-Wl,-z,max-page-size=0x1000,--sort-common -Wl,--build-id=sha1 -Wl,--icf=safe -Wl,-znoexecstack",
)

EVIL_FLAGS = (
    # what a shell, make or Portage would take for more than words (reference §7.1)
    "-O2;id",
    "-O2 $(id)",
    "$(shell id)",
    "-O2 `id`",
    "-O2 | sh",
    "-O2 && id",
    "-O2 > /etc/passwd",
    '-O2" FETCHCOMMAND="id',
    "-O2' PORTAGE_BASHRC='/x",
    "-O2\nFETCHCOMMAND=/x",
    "-O2\rX",
    "-O2\x00",
    "-O2\x0b-B/x",
    "-O2\u2028x",
    "-O2\u00a0-Ox",
    "${HOME}",
    "$HOME",
    "\\",
    "-O2 #",
    "-O*",
    "-O?",
    "-O2 ~root",
    "-O2 !x",
    "-O{2,3}",
    "-Ö2",
    "-O２",
    # what runs or loads a program
    "-wrapper sh,-c,id",
    "-wrapper",
    "sh,-c,id",
    "-fplugin=/tmp/x.so",
    "-fplugin-arg-x-y=z",
    "-fpass-plugin=/x",
    "-fno-plugin=/x",
    "-specs=/tmp/x",
    "--specs=/tmp/x",
    "-B/tmp",
    "-B",
    "-fuse-ld=/tmp/x",
    "-fuse-ld=mold",
    "--ld-path=/x",
    "-mllvm -load=/x.so",
    "-mllvm",
    "-Xclang -load",
    "-Xlinker x",
    "-no-integrated-cpp",
    "-Wl,-plugin,/tmp/x.so",
    "-Wl,--plugin=/tmp/x.so",
    "-Wl,-O1,-plugin,/x",
    "-Wl,-z,now,-T,/x",
    "-Wl,-T/tmp/x",
    "-Wl,-T,/tmp/x",
    "-Wl,-rpath,/tmp",
    "-Wl,--wrap=open",
    "-Wl,-init,x",
    "-Wl,--dynamic-linker=/x",
    "-Wl,-z",
    "-Wl,-z,",
    "-Wl,-z,a/b",
    "-Wl,",
    "-Wl",
    "-Wl,@/x",
    "-Wl,--defsym=malloc=0",
    "-Wa,-I/x",
    "-Wa",
    "-Wp,-MD,/x",
    "-Wp",
    # what reads or writes a file
    "@/etc/passwd",
    "-include /etc/passwd",
    "-include",
    "-imacros",
    "-isystem/x",
    "-I/tmp",
    "-I",
    "-L/tmp",
    "-lx",
    "-o /x",
    "-o/x",
    "-dumpdir",
    "-dumpbase=x",
    "-dumpmachine",
    "-save-temps",
    "-fdump-tree-all",
    "-fdump-ipa-all=/x",
    "-fprofile-use=/x",
    "-fprofile-generate=/x",
    "-fprofile-dir=/x",
    "-fauto-profile=/x",
    "-ftest-coverage",
    "--coverage",
    "-pg",
    "-fopt-info=/x",
    "-fcallgraph-info",
    "-fstack-usage",
    "-fsave-optimization-record",
    "-fdebug-prefix-map=a=b",
    "-ffile-prefix-map=/=/x",
    "-fmodule-mapper=x",
    "-fmodules-cache-path=/x",
    "-foffload=x",
    "-fsanitize=address",
    "-flto=/x",
    "-MD",
    "-MF/x",
    "--sysroot=/x",
    "-static",
    "-shared",
    "-nostdlib",
    "-x c",
    "-E",
    "-S",
    "-c",
    "-###",
    "-v",
    "/etc/passwd",
    "x.c",
    "-",
    "--",
    "--param=x=1",
    "-DX=1",
    "-Dmalloc=free",
    "-march=",
    "-march=../x",
    "-mtune=a b;c",
    "-D_FORTIFY_SOURCE=4",
    "--eval=x",
    "-j99",
)


@pytest.mark.parametrize("flags", GOOD_FLAGS)
def test_flags_that_people_have_are_allowed(flags: str) -> None:
    assert check_flags("cflags", flags) == flags


@pytest.mark.parametrize("name", FLAGS)
@pytest.mark.parametrize("flags", EVIL_FLAGS)
def test_flags_that_could_do_more_are_refused(name: str, flags: str) -> None:
    for text in (flags, f"-C opt-level=2 {flags}" if name == "rustflags" else f"-O2 {flags} -pipe"):
        with pytest.raises(InvalidParameter) as caught:
            check_flags(name, text)
        assert caught.value.field == name
        assert caught.value.reason
        assert caught.value.reason.isprintable()


@pytest.mark.parametrize("flags", ["-C target-cpu=native", "-Copt-level=3 -C lto=thin -Ccodegen-units=1", ""])
def test_flags_of_rust(flags: str) -> None:
    assert check_flags("rustflags", flags) == flags


@pytest.mark.parametrize(
    "flags",
    [
        "-C linker=/tmp/x",
        "-Clinker=sh",
        "-C link-arg=-fuse-ld=/x",
        "-C link-args=x",
        "-C",
        "-C -C",
        "-C opt-level=3 -C",
        "-L /tmp",
        "--extern x=/x",
        "-Zcodegen-backend=/x.so",
        "-C profile-use=/x",
        "-C incremental=/x",
        "-C llvm-args=-load=/x",
        "-C passes=x",
        "--cfg x",
        "-O2",
        "target-cpu=native",
    ],
)
def test_flags_of_rust_that_could_do_more_are_refused(flags: str) -> None:
    with pytest.raises(InvalidParameter):
        check_flags("rustflags", flags)


def test_flags_are_not_without_end() -> None:
    with pytest.raises(InvalidParameter):
        check_flags("cflags", "-O2 " * limits.TARGET_FLAGS_LENGTH)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc to ask")
def test_what_is_allowed_is_what_gcc_knows() -> None:
    """The names of options that only say how code is made, beside those that GCC has."""
    done = subprocess.run(
        ["gcc", "--help=optimizers", "-Q"],
        capture_output=True,
        text=True,
        check=True,
        env={"LC_ALL": "C", "PATH": os.environ["PATH"]},
    )
    known = [line.split()[0] for line in done.stdout.splitlines() if line.strip().startswith("-f")]
    plain = [word for word in known if "=" not in word]
    refused = [word for word in plain if _is_refused(word)]
    assert len(refused) < len(plain) / 6, refused
    assert "-fsave-optimization-record" in refused
    assert "-fopt-info" in refused


def _is_refused(word: str) -> bool:
    try:
        check_flags("cflags", word)
    except InvalidParameter:
        return True
    return False


@pytest.mark.parametrize(
    "text", ["x86_64-pc-linux-gnu", "aarch64-unknown-linux-musl", "armv7a-hardfloat-linux-gnueabihf"]
)
def test_chost(text: str) -> None:
    assert check_chost(text) == text
    assert check_chost(text, [text, "i686-pc-linux-gnu"]) == text
    with pytest.raises(InvalidParameter):
        check_chost(text, ["i686-pc-linux-gnu"])


@pytest.mark.parametrize(
    "text", ["", "x86_64", "x86_64-pc-linux-gnu;id", "../x-y", "x86-64\n", "a-b c", "-x-y", "$(id)-x"]
)
def test_no_chost(text: str) -> None:
    with pytest.raises(InvalidParameter):
        check_chost(text)


@pytest.mark.parametrize(
    "text", ["", "/etc", "../../x", "default/../x", "a//b", "a/", "a b", "a\n", "gentoo:a", ".x", "a/.b"]
)
def test_no_profile(text: str) -> None:
    with pytest.raises(InvalidParameter):
        check_profile(text)


def test_profiles_may_be_a_list() -> None:
    assert check_profile("default/linux/amd64/23.0", ["default/linux/amd64/23.0"])
    with pytest.raises(InvalidParameter):
        check_profile("default/linux/amd64/23.0", [])


@pytest.mark.parametrize("text", ["=app-misc/a-1", "=app-misc/a-1.2_p3-r4", "=app-misc/a-1::gentoo"])
def test_what_emerge_may_be_told_to_build(text: str) -> None:
    cpv, repository = check_build_atom(text)
    assert text == f"={cpv}" + (f"::{repository}" if repository else "")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "=",
        "app-misc/a-1",
        "=app-misc/a",
        "~app-misc/a-1",
        ">=app-misc/a-1",
        "=app-misc/a-1*",
        "=app-misc/a-1:0",
        "=app-misc/a-1[x]",
        "=app-misc/a-1::",
        "=app-misc/a-1::-x",
        "=app-misc/a-1::gentoo::x",
        "=a-1",
        "==app-misc/a-1",
        "!app-misc/a",
        "/tmp/a/a-1.ebuild",
        "=/tmp/a-1",
        "./a-1.gpkg.tar",
        "=../x/a-1",
        "@world",
        "--config-root=/x",
        "-C",
        "--",
        "=app-misc/a-1 --pretend",
        "=app-misc/a-1\n",
        "=app-misc/a-1\x00",
        " =app-misc/a-1",
        "=app-misc/$(id)-1",
        "=app-misc/a-1;id",
    ],
)
def test_what_emerge_is_never_told(text: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        check_build_atom(text)
    assert caught.value.field == "atom"


def test_parts_of_what_is_built() -> None:
    assert check_build_atom("=app-misc/a-1-r2::guru") == (CPV("app-misc", "a", "1-r2"), "guru")
    assert check_build_atom("=app-misc/a-1") == (CPV("app-misc", "a", "1"), None)


@pytest.mark.parametrize("text", ["app-misc/a", ">=app-misc/a-1:2", "~app-misc/a-1::guru", "=app-misc/a-1*"])
def test_what_people_ask_for(text: str) -> None:
    assert str(check_wanted_atom(text)) == text


@pytest.mark.parametrize(
    "text", ["a", "@world", "!app-misc/a", "app-misc/a[x]", "app-misc/a:=", "/x/y.ebuild", "-C", ""]
)
def test_what_nobody_may_ask_for(text: str) -> None:
    with pytest.raises(InvalidParameter):
        check_wanted_atom(text)


@pytest.mark.parametrize(
    "flag", ["", "-x", "+x", "x y", "x;y", "$x", "../x", "x\n", "*", "_x", "x" * 200, "ü"]
)
def test_no_use_flag(flag: str) -> None:
    with pytest.raises(InvalidParameter):
        check_use(["ssl", flag])


def test_use_flags_are_the_packages_own() -> None:
    assert check_use(["ssl", "X"], ["X", "doc", "ssl"]) == ("ssl", "X")
    with pytest.raises(InvalidParameter, match="gtk is not in IUSE"):
        check_use(["gtk"], ["ssl"])


@pytest.mark.parametrize("word", ["**", "*", "~*", "arm64", "-amd64", "-*", "", "amd64 ", "~~amd64"])
def test_no_keyword(word: str) -> None:
    with pytest.raises(InvalidParameter):
        check_keywords(["amd64", word], "amd64")


@pytest.mark.parametrize("word", ["", "@", "--x", "a b", "$x", "/x", "x\n", "**"])
def test_no_licence(word: str) -> None:
    with pytest.raises(InvalidParameter):
        check_licenses(["*", word])


# All of them


def test_a_document_holds_them_all() -> None:
    parameters = Parameters.from_json(DOCUMENT)
    assert parameters.to_json() == DOCUMENT
    assert list(problems(DOCUMENT)) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("chost", None),
        ("arch", "amd64;id"),
        ("profile", None),
        ("cflags", "-O2 -march=native"),
        ("rustflags", "-C target-cpu=native"),
        ("ldflags", ["-Wl,-O1"]),
        ("keywords", "amd64"),
        ("keywords", ["~arm64"]),
        ("licenses", [7]),
        ("use", ["-x"]),
        ("use", ["x"] * (limits.FLAGS_PER_PACKAGE + 1)),
    ],
)
def test_a_wrong_parameter_is_named(name: str, value: object) -> None:
    document = {**DOCUMENT, name: value}
    with pytest.raises(InvalidParameter) as caught:
        Parameters.from_json(document)
    assert caught.value.field == name
    assert next(problem.field for problem in problems(document)) == name


@pytest.mark.parametrize(
    "name",
    [
        "FEATURES",
        "features",
        "MAKEOPTS",
        "EMERGE_DEFAULT_OPTS",
        "env",
        "bashrc",
        "package.env",
        "patches",
        "ROOT",
    ],
)
def test_what_is_no_parameter_is_refused(name: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        Parameters.from_json({**DOCUMENT, name: "x"})
    assert caught.value.field == name


@pytest.mark.parametrize("document", [None, [], "x"])
def test_no_document(document: object) -> None:
    with pytest.raises(InvalidParameter):
        Parameters.from_json(document)
