# SPDX-License-Identifier: GPL-2.0-or-later
"""Pure rules of the collector: no clock, no file, no socket, no SQL."""
