# SPDX-License-Identifier: GPL-2.0-or-later
"""Taking binary packages from a collector: what `gentwoo binhost` decides and does.

In the order of reading: `instruction_sets` (what a CPU must have), `compiler_flags`, `fitting` (which target
suits this machine: pure rules); `machine_facts`, `portage_facts` (what this machine is); `binrepos`
(Portage's binrepos.conf), `keyring` (the keys that Portage verifies packages with); `setup`, `status` and
`removal` put them together. Portage is asked by its commands and never imported.
"""
