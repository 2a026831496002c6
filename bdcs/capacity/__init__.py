# SPDX-License-Identifier: GPL-2.0-or-later
"""Who starts and stops builders: processes of this host, or an engine. How many is decided elsewhere.

    driver = driver_of(pool, local)                   # bdcs.capacity.configured
    fleet = await driver.look()                       # what it was told to have, and whom it has
    await driver.resize(fleet.wanted + 2)
    await driver.dismiss(["i-0abc…"])                 # where the engine lets us choose

No driver remembers anything: what there is says the engine, who works says the store.
"""
