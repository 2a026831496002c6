# SPDX-License-Identifier: GPL-2.0-or-later
"""Packages built on request: asking for them, waiting for them, hearing that they are there."""
