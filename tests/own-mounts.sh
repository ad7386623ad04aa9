# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Runs the test that sources it again, in a mount namespace of its own where that is allowed: servers of
# other tests that export the root look at what is mounted, and what a test forgets goes away with it. Sourced
# before lib.sh, whose folder and traps would not survive that. Knows nothing of what is mounted.

if [ "${QIDMAP_OWN_MOUNTS:-}" != 1 ] && unshare -m true 2>/dev/null; then
    QIDMAP_OWN_MOUNTS=1 exec unshare -m --propagation private bash "$0" "$@"
fi
