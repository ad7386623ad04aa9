/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The daemon's own main() under another name, for a fuzz target that runs the whole of it in a
 * thread of its process.
 */
int qidmapd_main(int argc, char **argv);

#define main qidmapd_main
#include "src/main.c"
