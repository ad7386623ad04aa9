# SPDX-License-Identifier: LGPL-2.1-or-later
# gnuplot -e "table='FILE'; out='FILE.svg'" speed.plot: of what bench/speed --table writes.
set terminal svg size 900,420 font "sans,11"
set output out
set style data histograms
set style histogram clustered gap 1
set style fill solid 0.85 noborder
set boxwidth 0.9
set grid ytics linecolor "#cccccc"
set border 3
set tics nomirror
set xtics rotate by -30
set ylabel "p50, times the limit"
set yrange [0:*]
set key top left horizontal
set title "One request at a time over TCP; the limit is a bare exchange and the naked system calls"
plot 1 with lines linecolor "#888888" title "limit", \
    table using ($4/($2+$3)):xtic(1) linecolor "#2b6cb0" title "qidmapd", \
    table using ($5 > 0 ? $5/($2+$3) : 1/0) linecolor "#c05621" title "diod"
