# plot.awk - draws the second table of `make bench', the parts of a launch, as an
# SVG:
#
#	make -s bench >bench.txt && awk -f tests/bench/plot.awk bench.txt >launch.svg
#
# Each part has two bars, that of simple-kvm and that of the floor.

/^Parts of a launch, us/ { inside = 1; next }
inside && NF >= 3 {
	n++
	ours[n] = $(NF - 1)
	floor[n] = $NF
	sub(/ +[0-9]+ +[0-9]+$/, "")
	name[n] = $0
	sum += ours[n]
	floor_sum += floor[n]
	if (ours[n] > most)
		most = ours[n]
	if (floor[n] > most)
		most = floor[n]
}

# bar CLASS Y MICROSECONDS: a bar, and its number after it.
function bar(class, y, us,   width) {
	width = us * 250 / most
	if (width < 1)
		width = 1
	printf "<rect class=\"%s\" x=\"196\" y=\"%d\" width=\"%.1f\" height=\"11\"/>\n",
		class, y, width
	printf "<text class=\"number\" x=\"%.1f\" y=\"%d\">%d</text>\n",
		196 + width + 6, y + 10, us
}

END {
	if (n == 0) {
		print "plot.awk: there is no table of parts" >"/dev/stderr"
		exit 1
	}
	height = 84 + 38 * n
	printf "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"520\" " \
		"height=\"%d\" viewBox=\"0 0 520 %d\" role=\"img\" " \
		"aria-labelledby=\"title\">\n", height, height
	print "<title id=\"title\">Where the time of a launch goes, in " \
		"microseconds: simple-kvm -l and the floor</title>"
	print "<!-- Drawn by tests/bench/plot.awk from what make bench printed. -->"
	print "<style>"
	print "  text { font: 14px system-ui, sans-serif; fill: #1f2328; }"
	print "  .part { text-anchor: end; }"
	print "  .number { font: 12px ui-monospace, monospace; }"
	print "  .title { font-weight: 600; }"
	print "  .page { fill: #ffffff; }"
	print "  .ours { fill: #0969da; }"
	print "  .floor { fill: #afb8c1; }"
	print "  @media (prefers-color-scheme: dark) {"
	print "    text { fill: #f0f6fc; }"
	print "    .page { fill: #0d1117; }"
	print "    .ours { fill: #4493f8; }"
	print "    .floor { fill: #656c76; }"
	print "  }"
	print "</style>"
	printf "<rect class=\"page\" width=\"520\" height=\"%d\" rx=\"6\"/>\n", height
	print "<text class=\"title\" x=\"16\" y=\"26\">Parts of a launch, in microseconds</text>"
	print "<rect class=\"ours\" x=\"16\" y=\"42\" width=\"14\" height=\"11\"/>"
	printf "<text x=\"38\" y=\"52\">simple-kvm -l: %d</text>\n", sum
	print "<rect class=\"floor\" x=\"236\" y=\"42\" width=\"14\" height=\"11\"/>"
	printf "<text x=\"258\" y=\"52\">the floor: %d</text>\n", floor_sum
	for (i = 1; i <= n; i++) {
		y = 74 + 38 * (i - 1)
		printf "<text class=\"part\" x=\"186\" y=\"%d\">%s</text>\n", y + 17, name[i]
		bar("ours", y, ours[i])
		bar("floor", y + 13, floor[i])
	}
	print "</svg>"
}
