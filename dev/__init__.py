# SPDX-License-Identifier: GPL-2.0-or-later
"""What stands behind the Makefile: setting a machine up, and running the main job on it."""
