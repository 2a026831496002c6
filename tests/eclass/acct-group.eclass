# SPDX-License-Identifier: GPL-2.0-or-later
# A stand-in for Gentoo's eclass of this name, written from its documented surface: makes the group.

SLOT="0"
KEYWORDS="amd64 arm64"
S="${WORKDIR}"

EXPORT_FUNCTIONS pkg_preinst

acct-group_pkg_preinst() {
	[[ ${ACCT_GROUP_ID} ]] || die "ACCT_GROUP_ID is not set"
	getent group "${PN}" >/dev/null || groupadd -r "${PN}" || die
}
