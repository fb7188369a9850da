# Shared by the scripts of this folder: TAP with one line a step, and a scratch folder that goes at the end.
# shellcheck disable=SC2034
# A script sources this, calls `plan N`, then `step TITLE COMMAND...`, and ends with `exit $failures`.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
build=${TALEA_BUILD:-.build/dev}
build=${build#"$PWD/"} # as make was called: another spelling is another set of flags
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
unset MAKEFLAGS CC CFLAGS LDFLAGS SAN BUILD V
nr=0 failures=0
clang=$(command -v clang-14 || command -v clang)
clangxx=$(command -v clang++-14 || command -v clang++)

plan() { echo "1..$1"; }

result() { # 0 or not, TITLE; the output of the step is in $scratch/out
	nr=$((nr + 1))
	if [ "$1" = 0 ]; then
		echo "ok $nr - $2"
	else
		echo "not ok $nr - $2"
		sed 's/^/# /' "$scratch/out"
		failures=1
	fi
}

step() { # TITLE COMMAND...
	local title=$1
	shift
	"$@" >"$scratch/out" 2>&1
	result $? "$title"
}

# A program that a user would write, with every inline call in it.
cat >"$scratch/user.c" <<'C'
#include <talea.h>
static struct talea_counter hits = TALEA_COUNTER_INIT;
static struct talea_level depth = TALEA_LEVEL_INIT;
int main(void)
{
	struct talea_stamp stamp;
	int i;

	for (i = 0; i < 1000; i++)
		talea_inc(hits);
	talea_add(hits, 5);
	talea_level_add(depth, -1);
	talea_inc_fn(hits);
	return talea_peek(hits, &stamp) == 0 || talea_abi() != TALEA_ABI;
}
C
cp "$scratch/user.c" "$scratch/user.cc"

# The library for another target: BUILD CC CROSS CFLAGS
library_for() {
	make -s BUILD="$1" CC="$2" CROSS="$3" CFLAGS="$4" "$1/libtalea.a" "$1/libtalea.so"
}
