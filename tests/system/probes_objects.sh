#!/bin/bash
# Objects of users: the example builds with the command in its comment and the installed header, and counts
# exactly. talead refuses an object that it cannot trust or that is not for talea, with a fix, and nothing else
# changes. Counts outlive talead. The counts of interfaces, an object too, are those of /proc/net/dev. TAP.
# shellcheck source=tests/lib/shell.bash
. "$(dirname "$0")/../lib/shell.bash"
# In a network of its own nobody else sends.
in_namespaces --net --mount
objects=$folder/objects root=$folder/root source=bpf/example/opens.bpf.c
total=0

# --- the installed header, and the command in the example

# -o: make installs what was built before.
make -s -o all BUILD="$build" DESTDIR="$root" PREFIX=/opt/talea install >"$folder/out" 2>&1 &&
	[ -s "$root/opt/talea/include/talea.bpf.h" ]
ok the_header_is_installed
export PKG_CONFIG_LIBDIR=$root/opt/talea/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$root
# build_line FILE: the command in its first comment, with the clang of this machine.
build_line() {
	sed -n '/^ \*\tclang/,/[^\\]$/s/^ \*\t//p' "$1" | sed -e ':a' -e '/\\$/N; s/\\\n//; ta' |
		sed "s|^clang |$(command -v clang-14 || command -v clang) -Wall -Wextra -Wno-unused-parameter -Werror |"
}
mkdir -m 755 "$objects"
compile() { # compile NAME: objects/NAME.bpf.c, with the command of the example
	(cd "$objects" && eval "$(build_line "$OLDPWD/$source" | sed "s/opens\\./$1./g")") >"$folder/out" 2>&1
}
cp "$source" "$objects/"
[ -n "$(build_line "$source")" ] && compile opens && [ -s "$objects/opens.bpf.o" ]
ok the_example_builds_with_the_line_that_it_names
{ sed -n '/^ \*\t#include <talea.bpf.h>/,/^ \*\tchar LICENSE/s/^ \*\t//p' bpf/talea.bpf.h; } >"$objects/execs.bpf.c"
(cd "$objects" && eval "$(build_line "$OLDPWD/bpf/talea.bpf.h")") >"$folder/out" 2>&1 && [ -s "$objects/execs.bpf.o" ]
ok the_example_in_the_header_builds_with_that_line_too

# --- what the header refuses

rejects() { # rejects TEXT COUNTER STATEMENT: they do not compile, and the message has the text
	printf '%s\n' '#include <talea.bpf.h>' "$2" 'SEC("raw_tp/x") int x(void *ctx) {' "$3" 'return 0; }' \
		>"$objects/reject.bpf.c"
	! compile reject && grep -qF -- "$1" "$folder/out"
}
plain='TALEA_COUNTER(c, "c_total", "C.");'
keyed='TALEA_COUNTER_BY(c, "c_total", "C.", 8, TALEA_U64(id));'
rejects 'this counter has keys' "$keyed" 'talea_count(&c, 1);' &&
	rejects "is not this counter's struct" "$keyed" '__u32 id = 0; talea_count_by(&c, &id, 1);' &&
	rejects 'c_k' "$plain" '__u64 id = 0; talea_count_by(&c, &id, 1);' &&
	rejects 'a multiple of 8' 'TALEA_COUNTER_BY(c, "c_total", "C.", 8, TALEA_TEXT(comm, 15));' '' &&
	rejects 'too many bytes of key' 'TALEA_COUNTER_BY(c, "c_total", "C.", 8, TALEA_TEXT(comm, 56));' '' &&
	rejects '4_IS_TOO_MANY' 'TALEA_COUNTER_BY(c, "c_total", "C.", 8, TALEA_U64(a), TALEA_U64(b), TALEA_U64(d), TALEA_U64(e));' '' &&
	! rejects 'error' "$plain" 'talea_count(&c, 1);' && ! rejects 'error' "$keyed" 'struct c_key k = { 1 }; talea_count_by(&c, &k, 1);'
ok the_header_does_not_compile_what_it_cannot_count

# --- objects that are refused: all at once, beside the good one

object() { # object NAME [SED [HEADER-SED]]: the example and the header, edited
	mkdir -p "$folder/changed"
	sed "${3:-}" bpf/talea.bpf.h >"$folder/changed/talea.bpf.h"
	sed "${2:-}" "$source" >"$objects/$1.bpf.c"
	sed -i "s|<talea.bpf.h>|\"$folder/changed/talea.bpf.h\"|" "$objects/$1.bpf.c"
	compile "$1" || { echo "# $1 does not compile"; sed 's/^/# /' "$folder/out"; }
}
cat >"$objects/uses.bpf.c" <<'C'
#include <linux/errno.h>
#include <talea.bpf.h>

TALEA_COUNTER(uses, "libc_getpgid_total", "Calls of getpgid.");
TALEA_COUNTER_BY(uses_by, "libc_getpgid_arguments_total", "Sum of 3 a call.", 16, TALEA_TEXT(comm, 16),
		 TALEA_S64(sign), TALEA_ERRNO(error));

SEC("uprobe/libc.so.6:getpgid")
int called(void *ctx)
{
	struct uses_by_key key = { .sign = -1, .error = ESRCH };

	bpf_get_current_comm(key.comm, sizeof(key.comm));
	if (key.comm[0] != 'u' || key.comm[1] != '"')
		return 0;
	talea_count(&uses, 1);
	talea_count_by(&uses_by, &key, 3);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
C
compile uses
: >"$folder/expected"
config=("user = nobody" "probes = interface_traffic" "[probe opens]" "object = $objects/opens.bpf.o"
	"[probe uses]" "object = $objects/uses.bpf.o")
hostile() { # hostile NAME FILE TEXT: a probe of the configuration, and what its refusal must contain
	config+=("[probe $1]" "object = $2")
	printf '%s\t%s\n' "$1" "$3" >>"$folder/expected"
}
head -c 700 "$objects/opens.bpf.o" >"$objects/short.bpf.o"
hostile short "$objects/short.bpf.o" 'is no BPF object that can be read'
head -c 5000 /dev/urandom >"$objects/noise.bpf.o"
hostile noise "$objects/noise.bpf.o" 'is no BPF object that can be read'
: >"$objects/empty.bpf.o"
hostile empty "$objects/empty.bpf.o" 'has 0 bytes'
object newer '' 's/define TALEA_BPF_VERSION 1/define TALEA_BPF_VERSION 2/'
hostile newer "$objects/newer.bpf.o" 'built with another talea.bpf.h: it is of version 2, this talead knows 1'
object larger '' 's/__u32 keys_nr;/__u32 keys_nr, more;/'
hostile larger "$objects/larger.bpf.o" 'built with another talea.bpf.h'
object dense '' 's/BPF_F_MMAPABLE/0/'
hostile dense "$objects/dense.bpf.o" 'map opens is not what TALEA_COUNTER makes'
object lru '' 's/BPF_MAP_TYPE_PERCPU_HASH/BPF_MAP_TYPE_LRU_PERCPU_HASH/'
hostile lru "$objects/lru.bpf.o" 'map opens_k is not what TALEA_COUNTER_BY makes'
object label 's/TALEA_TEXT(comm, 16)/TALEA_TEXT(__x, 16)/; s/key\.comm/key.__x/g'
hostile label "$objects/label.bpf.o" 'counter file_opens_total: '
object name 's/"file_opens_total"/"file_opens"/'
hostile name "$objects/name.bpf.o" '_total'
object ours 's/"file_opens_total"/"kernel_opens_total"/'
hostile ours "$objects/ours.bpf.o" 'kernel_'
object twice '/^SEC/i TALEA_COUNTER(more, "file_opens_total", "Again.");'
hostile twice "$objects/twice.bpf.o" 'two of its counters are called file_opens_total'
object byname '/^SEC/i struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, __u64); __uint(pinning, LIBBPF_PIN_BY_NAME); } mine SEC(".maps");'
hostile byname "$objects/byname.bpf.o" 'map mine is pinned by its name, and would outlive the probe. fix: take LIBBPF_PIN_BY_NAME out'
object none '/^TALEA/,/;$/d; s/struct opens_key key = {};/char x[16]; struct { char *comm; } key = { x };/; s/sizeof(key.comm)/16/; /talea_count_by/d'
hostile none "$objects/none.bpf.o" 'declares no counter'
object xdp 's/raw_tp.sys_enter/xdp/'
hostile xdp "$objects/xdp.bpf.o" 'is of a kind that talead does not attach, SEC("xdp")'
object bare 's/raw_tp.sys_enter/raw_tp/'
hostile bare "$objects/bare.bpf.o" 'is of a kind that talead does not attach, SEC("raw_tp")'
cp "$objects/opens.bpf.c" "$objects/untyped.bpf.c"
(cd "$objects" && eval "$(build_line "$OLDPWD/$source" | sed 's/opens\./untyped./g; s/ -g / /')") >"$folder/out" 2>&1
hostile untyped "$objects/untyped.bpf.o" 'build it again with clang -target bpf -O2 -g'
copy() { cp "$objects/opens.bpf.o" "$objects/$1.bpf.o"; }
copy everybody && chmod 666 "$objects/everybody.bpf.o"
hostile everybody "$objects/everybody.bpf.o" "can be written by everybody. fix: chmod go-w $objects/everybody.bpf.o"
copy theirs && chown 65534 "$objects/theirs.bpf.o"
hostile theirs "$objects/theirs.bpf.o" "belongs to uid 65534, not to root. fix: chown root $objects/theirs.bpf.o"
ln -s opens.bpf.o "$objects/link.bpf.o"
hostile link "$objects/link.bpf.o" "fix: object = $objects/opens.bpf.o"
ln -s objects "$folder/linked"
hostile linked "$folder/linked/opens.bpf.o" "$folder/linked is a symbolic link"
mkdir -m 775 "$objects/shared" && cp "$objects/opens.bpf.o" "$objects/shared/"
hostile shared "$objects/shared/opens.bpf.o" "can be written by its group. fix: chmod go-w $objects/shared"
mkfifo "$objects/pipe.bpf.o"
hostile pipe "$objects/pipe.bpf.o" 'is no regular file'
hostile folder "$objects" 'is no regular file'
hostile missing "$objects/missing.bpf.o" "$objects/missing.bpf.o: No such file or directory"

configure "${config[@]}"
start
ok talead_starts_with_good_and_bad_objects
if grep -E 'opens(, [a-z_]+)* not loaded' "$folder/log" >"$folder/out" &&
	grep -qE 'CAP_BPF|forbids bpf|has no bpf|type information' "$folder/out"; then
	skip objects_are_loaded_and_count "$(sed 's/.*not loaded: //' "$folder/out")"
	finish
fi
refused() { # a line of the log has each probe, the reason and a fix
	local name text rc=0
	while IFS=$'\t' read -r name text; do
		grep -E "probes? ([a-z]+, )*$name(, [a-z]+)* not loaded: .*\. fix: ." "$folder/log" |
			grep -qF -- "$text" || { echo "# $name: no line with \"$text\""; rc=1; }
	done <"$folder/expected"
	return $rc
}
refused
ok an_object_that_is_not_for_talea_or_not_of_root_is_refused_with_a_fix
! grep -E '(opens|traffic)(,| not loaded)' "$folder/log" >"$folder/out"
ok a_refused_object_stops_no_other

# --- exact

opens() { # opens COMMAND NUMBER: a command of that name opens as many files
	bash -c 'printf %s "$1" >/proc/self/comm; for ((i = 0; i < $2; i++)); do : </dev/null; done' - "$1" "$2"
	total=$((total + $2))
}
counted() { run 0 get "file_opens_total{comm=\"$1\"}" && out "$2"; }
opens talea-opens 1000
soon counted talea-opens 1000
ok example_counts_1000_opens_of_a_command_as_1000
opens talea-other 300 && opens talea-opens 234
soon counted talea-opens 1234 && counted talea-other 300
ok each_command_is_counted_for_itself

use() { python3 -c 'import os
open("/proc/self/comm", "w").write("u\"se")
for i in range(100): os.getpgid(0)'; }
used() {
	{
		"$talea" get libc_getpgid_total
		"$talea" get 'libc_getpgid_arguments_total{comm="u\"se",error="ESRCH",sign="-1"}'
	} 2>&1 | tee "$folder/out" | xargs | grep -qx '100 300'
}
if grep -E 'uses(,.*)? not loaded' "$folder/log" >"$folder/out"; then
	skip uprobe_of_an_object_counts_two_counters_one_with_three_labels "$(sed 's/.*not loaded: //' "$folder/out")"
else
	use && soon used
	ok uprobe_of_an_object_counts_two_counters_one_with_three_labels
fi

# --- interfaces: compared with /proc/net/dev

python3 - >"$folder/out" 2>&1 <<'PY'
import fcntl, socket, struct, time

def attr(kind, data):
    return struct.pack("HH", 4 + len(data), kind) + data + b"\0" * (-len(data) % 4)

def veth(a, b):  # RTM_NEWLINK: a pair, both ends here
    info = struct.pack("BxHiII", 0, 0, 0, 0, 0)
    peer = attr(1, info + attr(3, b.encode() + b"\0"))
    body = info + attr(3, a.encode() + b"\0") + attr(18, attr(1, b"veth\0") + attr(2, peer))
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as s:
        s.sendto(struct.pack("IHHII", 16 + len(body), 16, 0x605, 1, 0) + body, (0, 0))
        err = struct.unpack("i", s.recv(4096)[16:20])[0]
        if err:
            raise OSError(-err, "veth")

def up(name):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        fcntl.ioctl(s, 0x8914, struct.pack("16sH14x", name.encode(), 0x1043))

def running(name):  # the kernel drops what is sent before it has seen the carrier
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        ask = struct.pack("16s16x", name.encode())
        while not struct.unpack_from("H", fcntl.ioctl(s, 0x8913, ask), 16)[0] & 0x40:
            time.sleep(0.01)
    up(name)  # waits for the lock that the kernel holds meanwhile

open("/proc/sys/net/ipv6/conf/default/disable_ipv6", "w").write("1")
up("lo")
veth("talea0", "talea1")
up("talea0")
up("talea1")
running("talea0")
running("talea1")
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for i in range(700):
    s.sendto(b"x" * (i + 1), ("127.0.0.1", 9))
for name, nr in ("talea0", 500), ("talea1", 300):
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as p:
        p.bind((name, 0x88b5))
        for i in range(nr):
            p.send(b"\xff" * 12 + b"\x88\xb5" + b"y" * (60 + i))
PY
ok packets_are_sent_over_the_loopback_and_a_pair_of_interfaces
agrees() { # agrees DEVICE: our four counters and the line of the kernel
	local kernel ours
	read -r -a kernel < <(sed -n "s/^ *$1: *//p" /proc/net/dev)
	ours=$(for what in receive_packets receive_bytes transmit_packets transmit_bytes; do
		"$talea" get "kernel_network_${what}_total{device=\"$1\"}" 2>/dev/null || echo none
	done | xargs)
	echo "$1: kernel ${kernel[1]} ${kernel[0]} ${kernel[9]} ${kernel[8]}, talea $ours" >"$folder/out"
	[ "${kernel[1]}" -gt 250 ] && [ "$ours" = "${kernel[1]} ${kernel[0]} ${kernel[9]} ${kernel[8]}" ]
}
soon agrees lo && soon agrees talea0 && soon agrees talea1
ok packets_and_bytes_of_each_interface_are_those_of_proc_net_dev

# --- counting while no talead runs

stop
opens talea-opens 500
start && soon counted talea-opens 1734 && counted talea-other 300
ok counting_continues_while_no_talead_runs_and_the_next_one_adopts_the_exact_count
kill_all
opens talea-opens 266
start && soon counted talea-opens 2000
ok the_count_is_exact_after_all_processes_of_talead_were_killed
! grep 'its object has changed' "$folder/log" >"$folder/out"
ok an_unchanged_object_is_not_logged_as_changed

# --- another object in the same place

is_refused() { grep -E 'probes? opens not loaded' "$folder/log" | grep -qF 'talea attach --replace opens'; }
stop
object opens 's/"Calls that open a file, by command."/"Calls, also of this one."/; s/TALEA_TEXT(comm, 16)/TALEA_TEXT(name, 16)/; s/key\.comm/key.name/g'
start
is_refused
ok another_object_in_its_place_is_refused_with_how_to_replace_it
cp "$source" "$objects/opens.bpf.c" && compile opens
stop && opens talea-opens 11
start && soon counted talea-opens 2011
ok the_pinned_object_counts_on_exactly
object opens '/#ifdef __NR_open$/,/#endif/d; s/"Calls that open a file, by command."/"Others."/'
stop && start && ! logged 'opens not loaded' && opens talea-opens 20 && soon counted talea-opens 2031
ok another_program_with_the_same_counters_continues_the_counts
logged 'probe opens: its object has changed' && logged 'its counts continue without a gap'
ok a_changed_object_is_logged

# Two programs with the same counters replace each other while the load opens files. The load counts them too.
load() {
	exec python3 - "$folder" <<'PY'
import os, sys, time
done, nr, least = sys.argv[1] + "/done", 0, 1.0
fd = os.open("/proc/self/comm", os.O_WRONLY)
os.write(fd, b"talea-load")
open_, close, exists = os.open, os.close, os.path.exists
while not exists(done):
    began = time.monotonic()
    for i in range(64):
        close(open_("/dev/null", 0))
    least = min(least, time.monotonic() - began)
    nr += 64
os.write(fd, b"talea-idle")
with open(sys.argv[1] + "/rate", "w") as f: # opens in a millisecond, at its fastest
    f.write(str(int(64 / least / 1000) + 1))
with open(sys.argv[1] + "/made", "w") as f:
    f.write(str(nr))
PY
}
others() { # others [SED]: the example with another help text: another file with the same counters
	round=$((round + 1))
	object opens "/#ifdef __NR_open\$/,/#endif/d; s/\"Calls that open a file, by command.\"/\"Round $round.\"/; ${1:-}"
}
under_load() { # under_load ROUNDS [SED]: so many replacements while the load opens $made files
	local i pid rc=0
	rm -f "$folder/done" "$folder/made"
	load &
	pid=$!
	for ((i = 0; i < $1; i++)); do
		stop && others "${2:-}" && start && logged 'probe opens: its object has changed' || rc=1
	done
	kill -0 $pid || rc=1
	: >"$folder/done"
	wait $pid && made=$((made + $(cat "$folder/made"))) && return $rc
}
round=0 made=0
under_load 3 && logged 'without a gap' && soon counted talea-load "$made"
ok no_event_is_lost_or_doubled_when_another_program_takes_its_place_under_load
is_near() { # no event counts twice, and only events of the logged milliseconds are missing
	local is ms
	is=$("$talea" get 'file_opens_total{comm="talea-load"}')
	ms=$(sed -n 's/.*events of the \([0-9]*\)\.[0-9]* ms between are not counted.*/\1/p' "$folder/log")
	echo "made $made, counted $is, $(cat "$folder/rate") a ms, of which $ms told" >"$folder/out"
	[ "$is" -le "$made" ] && [ $((made - is)) -le $(((ms + 2) * $(cat "$folder/rate"))) ]
}
under_load 1 's|raw_tp/sys_enter|tp_btf/sys_enter|' && logged 'ms between are not counted' && soon is_near
ok programs_of_other_events_end_before_the_new_ones_begin_and_the_gap_is_logged
total=$(("$("$talea" get 'file_opens_total{comm="talea-opens"}')"))
others 's|raw_tp/sys_enter|fentry/talea_has_no_such_function|'
stop && start && grep -E 'opens not loaded' "$folder/log" >"$folder/out" && opens talea-opens 30 &&
	others && stop && start && soon counted talea-opens "$total"
ok an_object_that_cannot_be_attached_ends_no_pinned_one

# Two objects may differ only in a relocation: the same code, another counter.
pair() { # pair COUNTER
	cat >"$objects/uses.bpf.c" <<C
#include <talea.bpf.h>
TALEA_COUNTER(first, "pair_first_total", "One.");
TALEA_COUNTER(second, "pair_second_total", "Two.");
SEC("raw_tp/sys_enter")
int called(__u64 *ctx)
{
	char comm[16];
	bpf_get_current_comm(comm, sizeof(comm));
	if (ctx[1] == $(printf '#include <sys/syscall.h>\n__NR_getpgid\n' | cc -E - | tail -n 1) && comm[0] == 'u' && comm[1] == '"')
		talea_count(&$1, 1);
	return 0;
}
static void __attribute__((used)) both(void) { talea_count(&first, 0); talea_count(&second, 0); }
char LICENSE[] SEC("license") = "GPL";
C
	compile uses
}
paired() { run 0 get pair_first_total pair_second_total && [ "$(grep -oE '[0-9]+$' "$folder/out" | xargs)" = "$1" ]; }
pair first && stop && start && { run 0 attach --replace uses || true; } && use &&
	soon paired '100 0' && pair second && stop && start && logged 'uses: its object has changed' &&
	use && soon paired '100 100'
ok the_same_code_with_another_counter_is_another_object
stop
object opens 's/TALEA_TEXT(comm, 16)/TALEA_TEXT(name, 16)/; s/key\.comm/key.name/g'
start
run 0 attach --replace opens
ok an_object_is_replaced_on_request
opens talea-opens 77
renamed() { run 0 get 'file_opens_total{name="talea-opens"}' && out 77; }
soon renamed
ok a_replaced_object_counts_from_zero

stop
ok talead_ends_in_order
ends 0 "$talead" -c "$folder/talea.conf" --unpin
ok unpin_ends_the_pinned_probes
finish
