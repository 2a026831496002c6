# Copyright 2026 Gentoo Authors
# Distributed under the terms of the GNU General Public License v2
# SPDX-License-Identifier: GPL-2.0-or-later

EAPI=8

inherit acct-user

DESCRIPTION="User of the GenTwoo signer"

ACCT_USER_ID=-1
ACCT_USER_GROUPS=( bdcs-signer )
ACCT_USER_HOME="/var/lib/bdcs-signer"
ACCT_USER_HOME_PERMS=0700

acct-user_add_deps
