#!/bin/sh
# MADV_MERGEABLE does what it is for: two guests with the same 4 MiB in their
# RAM, no two pages of which are alike in one guest, come to share that memory
# once the kernel's same-page merging is on.
# backends: no (needs Linux 5.19 or later, and a process for each guest)
. "${0%/*}/lib.sh"
need_kvm
ksm=/sys/kernel/mm/ksm
[ "$(id -u)" = 0 ] || skip_all 'switching KSM on needs root'
[ -d /sys/kernel/mm ] || skip_all '/sys is not mounted'
[ -d $ksm ] || skip_all 'this kernel is built without KSM'
[ -e /proc/self/ksm_merging_pages ] ||
	skip_all 'no /proc/PID/ksm_merging_pages: needs Linux 5.19'
[ -w $ksm/run ] || skip_all "$ksm is read-only"
has_mode -l || skip_all 'this KVM does not have the mode -l'
pages=1024 # that the guest fills

# One run at a time: else one would restore what another has set.
exec 9<$ksm/run
flock 9

# The guests end and the host gets its settings back, whatever happens. What
# the kernel has beyond these is off, or changes nothing here.
settings='pages_to_scan sleep_millisecs run'
[ ! -e $ksm/advisor_mode ] || settings="advisor_mode $settings"
[ ! -e $ksm/smart_scan ] || settings="smart_scan $settings"
for name in $settings; do
	# The advisor's modes are all listed, the one chosen in brackets.
	sed 's/.*\[\(.*\)\].*/\1/' $ksm/"$name" >"$T/$name"
done
guests=
restore() {
	# shellcheck disable=SC2086 # some numbers of processes
	[ -z "$guests" ] || kill -9 $guests 2>/dev/null
	for name in $settings; do
		cat "$T/$name" >$ksm/"$name"
	done
	finish
}
trap restore EXIT

# A guest that has filled its RAM says so, and then waits for a reader. It has
# its limit here, as it is killed in the end.
for n in 1 2; do
	mkfifo "$T/fifo$n"
	# shellcheck disable=SC2016 # for that shell
	timeout -s KILL 300 sh -c 'echo $$ >"$0"; exec "$@"' "$T/pid$n" \
		"$SIMPLE_KVM" -l -m 32M "$GUESTS/content64.bin" \
		>"$T/fifo$n" 2>"$T/err$n" &
	# To open it waits for the guest's simple-kvm, and lets it go on.
	if [ $n = 1 ]; then exec 3<"$T/fifo1"; else exec 4<"$T/fifo2"; fi
done
read -r line <&3
is 'the first guest has filled its memory' "$line" filled
read -r line <&4
is 'the second guest has, too' "$line" filled
guests=$(cat "$T/pid1" "$T/pid2")

# merged PID: how many of its pages are shared with others that are the same.
merged() { cat "/proc/$1/ksm_merging_pages" 2>/dev/null || echo 0; }

# both_merged PID PID: ksmd has merged the content of both. It needs to see a
# page unchanged in two scans before it does; after 20, or when it does not end
# a scan within a minute, it will not come.
both_merged() {
	scans=$(cat $ksm/full_scans)
	last=$((scans + 20))
	polls=0
	while [ "$scans" -le $last ] && [ $polls -lt 1200 ]; do
		[ "$(merged "$1")" -lt $pages ] ||
			[ "$(merged "$2")" -lt $pages ] || return 0
		sleep 0.05
		polls=$((polls + 1))
		[ "$(cat $ksm/full_scans)" = "$scans" ] || polls=0
		scans=$(cat $ksm/full_scans)
	done
	return 1
}

# One scan goes over far more than all the pages that there are to merge.
[ ! -e $ksm/advisor_mode ] || echo none >$ksm/advisor_mode
[ ! -e $ksm/smart_scan ] || echo 0 >$ksm/smart_scan
echo 100000 >$ksm/pages_to_scan
echo 10 >$ksm/sleep_millisecs
echo 1 >$ksm/run
# shellcheck disable=SC2086 # two numbers
both_merged $guests
result $? "KSM has merged $pages pages in each"
for pid in $guests; do
	comment "ksm_merging_pages: $(merged "$pid")"
	comment "$(cat "/proc/$pid/ksm_stat" 2>/dev/null)"
done
for name in pages_shared pages_sharing full_scans; do
	comment "$name: $(cat $ksm/$name)"
done

done_testing
