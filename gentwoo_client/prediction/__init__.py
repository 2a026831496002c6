# SPDX-License-Identifier: GPL-2.0-or-later
"""How long merges will take: from this machine's own history, and from what the fleet knows.

A leaf: standard library only, no file, no clock. docs/prediction.md tells what is done and why.
"""
