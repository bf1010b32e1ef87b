# shellcheck shell=sh disable=SC2034,SC2154
# tests/rsp.sh - what the tests of --gdb share: sending packets, and reading the
# replies. It wants tests/lib.sh. $mode and $bits are the mode and its size.

# packets PACKET...: each with its frame and checksum. ^C is the byte for that.
packets() {
	printf '%s\n' "$@" | awk '
		BEGIN {
			for (i = 32; i < 127; i++)
				ord[sprintf("%c", i)] = i
		}
		$0 == "^C" {
			printf "\003"
			next
		}
		{
			sum = 0
			for (i = 1; i <= length($0); i++)
				sum += ord[substr($0, i, 1)]
			printf "$%s#%02x", $0, sum % 256
		}'
}

# serve ARGUMENT...: run simple-kvm --gdb on the packets in $T/packets. $status,
# $err, $sent and $replies, a line for each, are what came of it: all that was
# sent, and all but the output, which comes in as many packets as it likes.
serve() {
	status=0
	limit "$SIMPLE_KVM" --gdb "$@" >"$T/out" 2>"$T/err" \
		<"$T/packets" || status=$?
	contents "$T/err"
	err=${contents%"$NL"}
	sent=$(awk 'BEGIN { RS = "$" } sub(/#[0-9a-f][0-9a-f][+]*$/, "")' "$T/out")
	replies=$(grep -v '^O[^K]' <<-SENT
		$sent
	SENT
	)
}

# session PACKET...: serve with the options in $with, and the test guest called
# $guest, if any.
guest=
session() {
	packets "$@" >"$T/packets"
	# shellcheck disable=SC2086 # several words
	serve $with ${guest:+"$GUESTS/$guest$bits.bin"}
}

# reply N: the Nth reply.
reply() {
	sed -n "${1}p" <<-REPLIES
		$replies
	REPLIES
}

# output: what the O packets say.
output() {
	# shellcheck disable=SC2059 # the format is the bytes
	printf "$(printf '%s\n' "$sent" | sed -n 's/^O\([^K]\)/\1/p' |
		tr -d '\n' | awk '
		BEGIN {
			for (i = 0; i < 256; i++)
				octal[sprintf("%02x", i)] = sprintf("\\%03o", i)
		}
		{
			for (i = 1; i < length($0); i += 2)
				printf "%s", octal[substr($0, i, 2)]
		}')"
}

# rip N: RIP of the Nth reply, which is that to `g', as a hexadecimal number.
rip() {
	if [ "$bits" = 64 ]; then from=257; else from=65; fi
	reply "$1" | sed "s/^.\\{$((from - 1))\\}//
		s/^\\(..\\)\\(..\\)\\(..\\)\\(..\\).*/\\4\\3\\2\\1/; s/^0*//"
}
