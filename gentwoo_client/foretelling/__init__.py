# SPDX-License-Identifier: GPL-2.0-or-later
"""What `gentwoo predict` looks at: the log, the running emerge, package moves, and the fleet's table."""
