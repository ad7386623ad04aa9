# SPDX-License-Identifier: LGPL-2.1-or-later
# gnuplot -e "table='FILE'; out='PREFIX'" speed.plot: of the table that speed.sh makes of speed.csv:
# case, time to the limit of floor, qidmapd, diod, CPU to diod's of floor, qidmapd, system calls of
# floor, qidmapd, diod; first over unix sockets, then over TCP.
set terminal svg size 900,560 font "sans,11" background rgb "white"
set datafile missing "?"
set style data histograms
set style histogram clustered gap 1
set style fill solid 0.85 noborder
set boxwidth 0.9
set grid ytics linecolor "#cccccc"
set border 3
set tics nomirror
set yrange [0:*]
set key above horizontal
set xrange [-0.7:*]

ours = "#2b6cb0"
peer = "#c05621"
least = "#a0aec0"
over(i) = i == 0 ? "unix socket" : "TCP"

set output out."-time.svg"
set multiplot layout 2,1 title "Time of one request at a time; 1 is the limit: a bare exchange and the naked system calls"
set xtics rotate by -20 font "sans,9"
do for [i=0:1] {
    set ylabel over(i).", times the limit"
    plot table index i using 3:xtic(1) linecolor rgb ours title "qidmapd", \
        "" index i using 4 linecolor rgb peer title "diod", \
        1 with lines linecolor rgb "#666666" title "limit", \
        1.2 with lines dashtype 2 linecolor rgb "#666666" title "target"
}
unset multiplot

set output out."-cpu.svg"
set yrange [0:1.1]
set multiplot layout 2,1 title "CPU time of the server for one request at a time, diod's being 1"
do for [i=0:1] {
    set ylabel over(i).", to diod's"
    plot table index i using 5:xtic(1) linecolor rgb least title "floor: recv, the naked calls, send", \
        "" index i using 6 linecolor rgb ours title "qidmapd", \
        1 with lines linecolor rgb peer title "diod", \
        0.5 with lines dashtype 2 linecolor rgb "#666666" title "target"
}
unset multiplot

set yrange [0:*]
set terminal svg size 900,320 font "sans,11" background rgb "white"
set output out."-calls.svg"
set title "System calls of the server for one case over TCP, all threads"
set ylabel "system calls"
plot table index 1 using 7:xtic(1) linecolor rgb least title "floor", \
    "" index 1 using 8 linecolor rgb ours title "qidmapd", \
    "" index 1 using 9 linecolor rgb peer title "diod"
