# SPDX-License-Identifier: GPL-2.0-or-later
"""Builders: machines that build what others asked for. They speak HTTP with the collector, and nothing else.

`worker` takes leases and keeps them; an `attempt` is one of them, from its throw-away `root` to its
publication: `portage_config` says how to build, `emerge` builds, inside of the `sandbox`.
"""
