# SPDX-License-Identifier: GPL-2.0-or-later
# A stand-in for Gentoo's eclass of this name, written from its documented surface.

RDEPEND="virtual/tmpfiles"

newtmpfiles() {
	(
		insopts -m 0644
		insinto /usr/lib/tmpfiles.d
		newins "$@"
	)
}

tmpfiles_process() {
	[[ ${EBUILD_PHASE} == postinst ]] || die "tmpfiles_process belongs into pkg_postinst"
	# In a Prefix there are no such users.
	[[ -n ${EPREFIX} ]] || systemd-tmpfiles --create "$@" || die
}
