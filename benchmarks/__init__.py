# SPDX-License-Identifier: GPL-2.0-or-later
"""Each target of the design's section 9 as a command, with its peer or limit measured in the same run."""
