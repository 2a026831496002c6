# SPDX-License-Identifier: GPL-2.0-or-later
# A stand-in for Gentoo's eclass of this name, written from its documented surface: makes the user, in all of its groups.

SLOT="0"
KEYWORDS="amd64 arm64"
S="${WORKDIR}"
ACCT_USER_HOME=/dev/null
ACCT_USER_HOME_PERMS=0755

EXPORT_FUNCTIONS src_install pkg_preinst

acct-user_add_deps() {
	[[ ${ACCT_USER_GROUPS@a} == *a* ]] || die "ACCT_USER_GROUPS must be an array"
	RDEPEND+=" ${ACCT_USER_GROUPS[*]/#/acct-group/}"
}

acct-user_src_install() {
	[[ ${ACCT_USER_HOME} == /dev/null ]] || keepdir "${ACCT_USER_HOME}"
}

acct-user_pkg_preinst() {
	[[ ${ACCT_USER_ID} ]] || die "ACCT_USER_ID is not set"
	local IFS=,
	if ! getent passwd "${PN}" >/dev/null; then
		useradd -r -M -g "${ACCT_USER_GROUPS[0]}" -G "${ACCT_USER_GROUPS[*]}" -d "${ACCT_USER_HOME}" \
			-s /sbin/nologin "${PN}" || die
	fi
	if [[ ${ACCT_USER_HOME} != /dev/null ]]; then
		chown "${PN}:${ACCT_USER_GROUPS[0]}" "${ED}${ACCT_USER_HOME}" || die
		chmod "${ACCT_USER_HOME_PERMS}" "${ED}${ACCT_USER_HOME}" || die
	fi
}
