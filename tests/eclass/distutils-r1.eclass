# SPDX-License-Identifier: GPL-2.0-or-later
# A stand-in for Gentoo's eclass of this name, written from its documented surface: enough to build and install
# our package with the interpreter that the test names in STUB_PYTHON. It proves our phases, paths and
# pkg_config; it does not prove USE dependencies or PYTHON_COMPAT.

[[ ${DISTUTILS_USE_PEP517} ]] || die "set DISTUTILS_USE_PEP517 before inherit"
[[ ${PYTHON_COMPAT@a} == *a* ]] || die "PYTHON_COMPAT must be an array"

IUSE="${PYTHON_COMPAT[*]/#/python_targets_}"
REQUIRED_USE="|| ( ${IUSE} )"
SLOT="0"
: "${STUB_PYTHON:=python3}"
PYTHON_USEDEP="python_targets_python3_13(-)?"

EXPORT_FUNCTIONS src_prepare src_compile src_install

python_gen_cond_dep() {
	# Single quotes around the argument are part of the interface: it is expanded for each implementation.
	echo "${1//'${PYTHON_USEDEP}'/${PYTHON_USEDEP}}"
}

distutils-r1_python_prepare_all() {
	default
	_STUB_PREPARED=1
}

distutils-r1_src_prepare() {
	if declare -F python_prepare_all >/dev/null; then
		python_prepare_all
	else
		distutils-r1_python_prepare_all
	fi
	[[ ${_STUB_PREPARED} ]] || die "python_prepare_all must call distutils-r1_python_prepare_all"
	[[ -f pyproject.toml || -f setup.py ]] || die "neither pyproject.toml nor setup.py"
}

distutils-r1_src_compile() {
	"${STUB_PYTHON}" -m pip wheel -q --no-deps --no-index --no-build-isolation -w "${T}/wheel" . || die
}

distutils-r1_src_install() {
	"${STUB_PYTHON}" -m pip install -q --no-deps --no-index --no-compile --ignore-installed \
		--root "${D}" --prefix "${EPREFIX}/usr" "${T}"/wheel/*.whl || die
	# Debian's Python has a place of its own for what pip installs; Gentoo's has not.
	if [[ -d ${ED}/usr/local ]]; then
		[[ ! -d ${ED}/usr/local/bin ]] || mv "${ED}/usr/local/bin" "${ED}/usr/bin" || die
		mkdir -p "${ED}/usr/lib/python3" || die
		mv "${ED}"/usr/local/lib/python3*/dist-packages "${ED}/usr/lib/python3/" || die
		rm -r "${ED}/usr/local" || die
	fi
	find "${D}" \( -name direct_url.json -o -name REQUESTED -o -name INSTALLER -o -name RECORD \) -delete || die
	einstalldocs
}
