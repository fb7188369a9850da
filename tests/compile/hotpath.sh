#!/bin/bash
# The machine code that each compiler makes of the inline add (PROTOCOL 1). Between its start and its commit the
# section loads the route and the CPU number, calls nothing and has no instruction that locks the bus; the last
# instruction adds to a plain address. Controls break the header, and the test must find that.
# shellcheck source=tests/compile/common.bash
. "$(dirname "$0")/common.bash"

cat >"$folder/adds.c" <<'C'
#include <talea.h>
static struct talea_counter hits = TALEA_COUNTER_INIT;
struct talea_counter *handle(void);
struct talea_counter *handle(void) { return &hits; }
void one(void);
void one(void) { talea_inc(hits); }
void many(struct talea_counter c, uint64_t n);
void many(struct talea_counter c, uint64_t n) { talea_add(c, n); }
void loop(struct talea_level l);
void loop(struct talea_level l) { for (int i = 0; i < 1000; i++) talea_level_add(l, -3); }
C

sections() { # sections CROSS OBJECT: prints start and end in .text of each descriptor in __rseq_cs
	"${1}objcopy" -O binary -j __rseq_cs "$2" "$folder/descriptors"
	local at start
	"${1}objdump" -r -j __rseq_cs "$2" | sed -nE 's/^0*([0-9a-f]*8) .* \.text(\+0x([0-9a-f]+))?$/\1 \3/p' |
		while read -r at start; do
			[ $(((16#$at) % 32)) = 8 ] || continue
			start=$((16#${start:-0}))
			printf '%016x %016x\n' "$start" $((start + $(od -An -t u8 -j $((16#$at + 8)) -N 8 "$folder/descriptors")))
		done
}

judge() { # judge MACHINE CROSS OBJECT: prints what is wrong with its sections, also when it has fewer than three
	local from to count=0
	while read -r from to; do
		count=$((count + 1))
		"${2}objdump" -d --no-show-raw-insn -j .text "$3" | awk -v machine="$1" -v from="$from" -v to="$to" '
			function wrong(text) { print "section at " from ": " text; bad = 1 }
			/^ *[0-9a-f]+:\t/ {
				at = $1
				sub(/:$/, "", at)
				at = substr("0000000000000000" at, length(at) + 1)
				text = $0
				sub(/^[^\t]*\t/, "", text)
				sub(/ *(# |\/\/).*$/, "", text)
				gsub(/[ \t]+/, " ", text)
				if (at "" < from "")
					before = text
				else if (at "" < to "")
					code[n++] = text
				else if (!after)
					after = text
			}
			END {
				if (machine == "x86-64") {
					route = "^mov \\(%r[a-z0-9]+\\),%r"; cpu = "^mov %fs:0x4\\("
					stop = "^(call|lock|xchg|cmpxchg|xadd|syscall|ret)"; arm = "^mov %r[a-z0-9]+,%fs:0x8\\("
					commit = "^addq? [^(]*,\\(%r[a-z0-9]+\\)$"; clear = "^movq \\$0x0,%fs:0x8\\("
					pick = "^sub 0x8\\("
				} else {
					route = "^ldar x"; cpu = "^ldr w[0-9]+, \\[x[0-9]+, #4\\]"
					stop = "^(bl|blr|svc|ret|ld(a|l|al)?xr|st(l)?xr|ldadd|cas|swp|dmb)"
					arm = "^str x[0-9]+, \\[x[0-9]+, #8\\]"
					commit = "^str x[0-9]+, \\[x[0-9]+\\]$"; clear = "^str xzr, \\[x[0-9]+, #8\\]"
					pick = "^sub x"
				}
				for (i = 0; i < n; i++) {
					if (code[i] ~ stop)
						wrong("has " code[i])
					if (code[i] ~ route)
						routes++
					if (code[i] ~ cpu)
						cpus++
					if (code[i] ~ pick && !routes)
						wrong("judges the route before it is loaded")
				}
				if (!routes)
					wrong("does not load the route")
				if (cpus != 1)
					wrong("does not load the CPU number once")
				if (before !~ arm)
					wrong("is not armed by the instruction before it: " before)
				if (code[n - 1] !~ commit)
					wrong("commits with " code[n - 1])
				if (after !~ clear)
					wrong("is not disarmed by the instruction after it: " after)
				exit bad
			}' || return 1
	done < <(sections "$2" "$3")
	[ $count -ge 3 ] || {
		echo "$count sections instead of 3 or more"
		return 1
	}
}

good() { # good MACHINE CROSS COMPILER FLAGS...
	local machine=$1 cross=$2
	shift 2
	rm -f "$folder/adds.o"
	"$@" -Wall -Werror -Iclient/include -c -o "$folder/adds.o" "$folder/adds.c" &&
		judge "$machine" "$cross" "$folder/adds.o"
}

broken() { # broken MACHINE CROSS COMPILER SED-SCRIPT COMPLAINT
	rm -rf "$folder/include"
	cp -r client/include "$folder/include"
	sed -i "$4" "$folder/include/talea_add.h"
	! cmp -s "$folder/include/talea_add.h" client/include/talea_add.h || {
		echo "the control changes nothing"
		return 1
	}
	"$3" -O2 -I"$folder/include" -c -o "$folder/adds.o" "$folder/adds.c" || return
	judge "$1" "$2" "$folder/adds.o" | grep -F -- "$5"
}

native=$(uname -m)
plan 13
if [ "$native" = x86_64 ]; then
	for level in -O1 -O2 -O3 "-O2 -fPIC" ; do
		for compiler in gcc "$clang"; do
			# shellcheck disable=SC2086
			step "x86-64 add by ${compiler##*/} $level" good x86-64 "" "$compiler" $level
		done
	done
	step "control: a locked add is caught" \
		broken x86-64 "" gcc 's/"addq %\[n\], (%%rdx)/"lock addq %[n], (%%rdx)/' 'has lock add'
	step "control: an indexed add is caught" \
		broken x86-64 "" gcc 's/"addq %\[n\], (%%rdx)/"subq %%rax, %%rdx\\n\\taddq %[n], (%%rdx,%%rax)/' 'commits with add'
else
	for ((i = 0; i < 10; i++)); do
		skip 'x86-64 add' "this machine is $native"
	done
fi
step "arm64 add by gcc -O2" good arm64 aarch64-linux-gnu- aarch64-linux-gnu-gcc -O2
step "arm64 add by gcc -O2 -fPIC" good arm64 aarch64-linux-gnu- aarch64-linux-gnu-gcc -O2 -fPIC
step "control: a route loaded without order is caught" \
	broken arm64 aarch64-linux-gnu- aarch64-linux-gnu-gcc 's/"ldar x9/"ldr x9/' 'does not load the route'
finish
