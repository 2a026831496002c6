# SPDX-License-Identifier: GPL-2.0-or-later
"""This machine's Portage, asked by its own commands and its own interpreter. Nothing but `inside_portage`
imports Portage, and that file runs by itself."""
