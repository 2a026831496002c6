# SPDX-License-Identifier: GPL-2.0-or-later
"""The composition root: settings become objects here, and nowhere else."""
