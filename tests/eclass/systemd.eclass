# SPDX-License-Identifier: GPL-2.0-or-later
# A stand-in for Gentoo's eclass of this name, written from its documented surface.

systemd_dounit() {
	(
		insopts -m 0644
		insinto /usr/lib/systemd/system
		doins "$@"
	)
}
