# SPDX-License-Identifier: GPL-2.0-or-later
# A stand-in for Gentoo's eclass of this name: "clones" the directory that EGIT_OVERRIDE_REPO_GENTWOO names.

PROPERTIES+=" live"
S="${WORKDIR}/${P}"

EXPORT_FUNCTIONS src_unpack

git-r3_src_unpack() {
	[[ ${EGIT_REPO_URI} ]] || die "EGIT_REPO_URI is not set"
	cp -r "${EGIT_OVERRIDE_REPO_GENTWOO:?}" "${S}" || die
}
