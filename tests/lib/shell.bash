# What the shell tests share: TAP, commands and their output, waiting, other users, namespaces, a private daemon,
# a terminal. At the end it kills by pid what the test started through it, and removes the folder of the test. A
# script sources this file, calls `ok NAME` after each command that decides a test, and ends with `finish`.
# shellcheck shell=bash disable=SC2034,SC2317 # the scripts use these variables and call these functions
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
build=${TALEA_BUILD:-$PWD/.build/dev}
[[ $build = /* ]] || build=$PWD/$build
talea=$build/talea talead=$build/talead
folder=$(mktemp -d "${TMPDIR:-/tmp}/talea.XXXXXX") || exit 1
chmod 755 "$folder"
touch "$folder/out" "$folder/err" "$folder/log"
state=$folder/state
export TALEA_SOCKET=$folder/sock LC_ALL=C.UTF-8 TERM=xterm-256color
unset TALEA_NAMESPACE NO_COLOR COLUMNS LINES MAKEFLAGS CC CFLAGS LDFLAGS SAN BUILD V
# The seconds that a command or a condition may take on a busy machine. tests/run allows a program more.
patience=60

# --- TAP ------------------------------------------------------------------------------------------

nr=0 failed=0 planned='' code=''

plan() { # plan N: for a script that knows how many tests it has
	planned=$1
	echo "1..$1"
}
ok() { # ok NAME: the last command decides this test
	local rc=$?
	nr=$((nr + 1))
	if [ $rc = 0 ]; then
		echo "ok $nr - $1"
		return
	fi
	failed=1
	echo "not ok $nr - $1"
	[ -z "$code" ] || echo "# exit: $code"
	head -n 60 "$folder/out" | sed 's/^/# out: /'
	head -n 20 "$folder/err" | sed 's/^/# err: /'
	tail -n 25 "$folder/log" | sed 's/^/# log: /'
}
skip() { # skip NAME REASON
	nr=$((nr + 1))
	echo "ok $nr - $1 # SKIP $2"
}
skip_all() { # skip_all REASON: before the first test
	echo "1..0 # SKIP $1"
	exit 0
}
finish() {
	[ -n "$planned" ] || echo "1..$nr"
	exit $failed
}

# --- commands and their output --------------------------------------------------------------------

as=() # as_user sets it: the command that runs the commands below

ends() { # ends EXIT COMMAND...: keeps stdout and stderr of the command; true when it ends with EXIT
	local want=$1
	shift
	timeout "$patience" "${as[@]}" "$@" >"$folder/out" 2>"$folder/err"
	code=$?
	[ $code = "$want" ]
}
run() { ends "$1" "$talea" "${@:2}"; }                # run EXIT ARGUMENT...: the same for talea
says() { grep -qF -- "$1" "$folder/err"; }            # says TEXT: stderr contains it
silent() { [ ! -s "$folder/err" ]; }                  # stderr is empty
out() { [ "$(cat "$folder/out")" = "$1" ]; }          # out TEXT: stdout is exactly this
prints() { grep -qF -- "$1" "$folder/out"; }          # prints TEXT: stdout contains it
has_line() { grep -qxF -- "$1" "$folder/out"; }       # has_line TEXT: a line of stdout is this
shown() { grep -qE -- "$1" "$folder/out"; }           # shown REGEX: a line of stdout matches
json() { jq -e "$1" "$folder/out" >/dev/null; }       # json FILTER: it is true for the document on stdout
value() { jq -r "$1" "$folder/out"; }                 # value FILTER: prints what it selects there
same() { diff <(printf '%s\n' "$1") <(printf '%s\n' "$2"); } # same EXPECTED ACTUAL: prints what differs
sum() { awk '{ sum += $NF } END { print sum + 0 }' "$folder/out"; } # adds up the last fields of stdout

soon() { # soon COMMAND...: repeats it until it is true, for $patience seconds at most
	local end=$((SECONDS + patience))
	until "$@"; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.05
	done
}

# --- other users and namespaces -------------------------------------------------------------------

as_user() { # as_user [UID [CAPABILITY...]]: the user and the only capabilities of the next commands
	local caps=-all
	as=()
	[ $# != 0 ] || return 0
	as=(setpriv "--reuid=$1" "--regid=$1" --clear-groups)
	shift
	[ $# = 0 ] || caps+=$(printf ',+%s' "$@")
	as+=("--inh-caps=$caps" "--ambient-caps=$caps")
}
# in_namespaces OPTION...: root restarts the script in namespaces of its own: its mounts end with it. The parent
# of the restarted script is the same, and no other test has that parent.
in_namespaces() {
	[ "${TALEA_TEST_INSIDE:-}" != $PPID ] || return 0
	[ "$(id -u)" = 0 ] || skip_all 'needs root'
	unshare "$@" true 2>/dev/null || skip_all "no namespaces here (unshare $*)"
	rm -rf "$folder"
	exec unshare "$@" --propagation private env TALEA_TEST_INSIDE=$PPID "$0"
}

# --- a private daemon -----------------------------------------------------------------------------

# The daemon leads a session: processes that are left of the session are what the daemon left.
leader='' ready_nr=0 daemon_as=()

configure() { # configure LINE...: lines of [daemon], then other sections
	printf '%s\n' '[daemon]' "socket = $TALEA_SOCKET" "state = $state" "$@" >"$folder/talea.conf"
}
launch() {
	setsid "${daemon_as[@]}" "$talead" -c "$folder/talea.conf" >>"$folder/log" 2>&1 </dev/null &
	leader=$!
}
start() { # empties the log and starts the daemon; true when a worker is ready
	: >"$folder/log"
	next launch
}
next() { # next COMMAND...: runs it, then waits until one more worker and a standby are ready
	ready_nr=$(readies)
	"$@"
	soon is_settled && is_ready && soon has_standby
}
stop() { # ends the daemon in order; true when it ends with 0, or a standby had taken over from it
	local first=$leader last
	last=$(keeper)
	kill -TERM "$last" && soon is_over || return 1
	wait "$first" 2>/dev/null || [ "$first" != "$last" ]
}
kill_all() { # kills the whole group, so that no standby takes over
	kill -KILL -- "-$leader"
	soon is_over && { wait "$leader"; true; } 2>/dev/null
}
logged() { grep -qF -- "$1" "$folder/log"; }
# The last `ready` line of the log names keeper and worker. The standby is the other child of the keeper.
keeper() { sed -n 's/.*ready on .*(pid \([0-9]*\), .*/\1/p' "$folder/log" | tail -n 1; }
worker() { sed -n 's/.*ready on .*, worker \([0-9]*\)).*/\1/p' "$folder/log" | tail -n 1; }
standby() { ps --ppid "$(keeper)" -o pid=,stat= | awk -v w="$(worker)" '$2 !~ /^Z/ && $1 != w { print $1 }'; }
has_standby() { [ -n "$(standby)" ]; }
members() { # the processes of the session, without zombies
	[ -z "$leader" ] || ps -s "$leader" -o pid=,stat= | awk '$2 !~ /^Z/ { print $1 }'
}
is_over() { [ -z "$(members)" ]; }
is_gone() { [ ! -e "/proc/$1" ] || grep -q '^State:.*[ZX]' "/proc/$1/status" 2>/dev/null; }
readies() { grep -c 'ready on' "$folder/log"; }
is_ready() { [ "$(readies)" -gt "$ready_nr" ]; }
is_settled() { is_ready || { is_gone "$leader" && is_over; }; }

# --- a terminal: tmux with a shell, whose prompt has the number of the next line ------------------

line_nr=0
tm() { tmux -L "talea-$$" "$@"; }
terminal_open() { # terminal_open COLUMNS LINES
	line_nr=1
	tm -f /dev/null new-session -d -s t -x "$1" -y "$2" "PS1='prompt \\#> ' bash --norc --noprofile" &&
		prompts && return
	false
	ok the_terminal_opens
	return 1
}
terminal_close() {
	local pid
	[ $line_nr = 0 ] || ! pid=$(tm display-message -p '#{pid}' 2>/dev/null) || {
		tm kill-server
		soon is_gone "$pid"
	}
}
on_screen() { # on_screen REGEX [-e]: a line of the screen matches now; -e keeps its colours
	tm capture-pane "${@:2}" -p -t t >"$folder/out"
	shown "$1"
}
shows() { # shows REGEX [-e]: a line matches soon
	: >"$folder/err"
	soon on_screen "$@"
}
hides() { ! shown "$1"; }           # hides REGEX: no line of the last seen screen matches
prompts() { shows "^prompt $line_nr>\$"; } # the command of the last line has ended
type_line() { # type_line TEXT: clears the screen when the last command has ended, and types
	prompts
	tm send-keys -R -t t
	tm send-keys -t t -l "$1"
	tm send-keys -t t Enter
	line_nr=$((line_nr + 1))
}
alternate() { [ "$(tm display-message -p -t t '#{alternate_on}')" = "$1" ]; } # alternate 0|1: now

# --- the end --------------------------------------------------------------------------------------

started=() # the pids of background programs that end with the test

cleanup() {
	local left
	trap - EXIT
	terminal_close
	[ ${#started[@]} = 0 ] || kill "${started[@]}" 2>/dev/null
	for _ in {1..50}; do
		mapfile -t left < <(members)
		[ ${#left[@]} != 0 ] || break
		kill -KILL "${left[@]}" 2>/dev/null
		sleep 0.05
	done
	umount -l "$folder"/state/bpf "$folder"/*/state/bpf 2>/dev/null
	rm -rf "$folder"
}
trap cleanup EXIT
trap 'exit 1' INT TERM
