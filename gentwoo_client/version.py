# SPDX-License-Identifier: GPL-2.0-or-later
"""The version of GenTwoo: the only place where it stands."""

VERSION = "0.1.0"
