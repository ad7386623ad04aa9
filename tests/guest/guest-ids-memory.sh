#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: guest-ids.sh tests something. The same steps with memory: instead of
# a persistent store must change the inode number of at least one file on a
# persistent filesystem; the test names some of them.

QIDMAP_IDS_COUNTERPART=1 exec "$(dirname "$0")/guest-ids.sh" "$@"
