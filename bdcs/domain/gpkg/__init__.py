# SPDX-License-Identifier: GPL-2.0-or-later
"""GPKG, Portage's binary packages (GLEP 78): read without unpacking, checked, and written.

A package is a tar with one directory: the empty `gpkg-1`, two compressed tars, `metadata` and `image`, and a
`Manifest` of their hashes. Signed ones have a detached signature beside each of the two, and a clear-signed
Manifest. Nothing here is ever unpacked to disk, and nothing grows with the size of a package but the list of
names in its image.

Read `reading` first, which knows the order of things; `tar` walks archives, outer and inner ones; `manifest`,
`metadata` and `image` each check one part; `writing` makes packages anew under another number or with
signatures. What Portage would read differently from us, or not at all, is refused: a client runs scripts of a
package as root, so both must see the same package.
"""
