# SPDX-License-Identifier: GPL-2.0-or-later
"""From the bytes of emerge.log to what happened: files, tail, parser, tracker. Knows no collector."""
