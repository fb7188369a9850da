# What the scripts of this folder share beside tests/lib/shell.bash: steps, a program that uses the library, a
# library for another target. A script sources this file, calls `plan N`, then `step TITLE COMMAND...`, and ends
# with `finish`.
# shellcheck shell=bash disable=SC2034
# shellcheck source=tests/lib/shell.bash
. "${BASH_SOURCE%/*}/../lib/shell.bash"
build=${build#"$PWD/"} # make was called with this spelling: another one would be another set of flags
clang=$(command -v clang-14 || command -v clang)
clangxx=$(command -v clang++-14 || command -v clang++)

step() { # step TITLE COMMAND...
	"${@:2}" >"$folder/out" 2>"$folder/err"
	ok "$1"
}

# A user would write such a program. It has every inline call.
cat >"$folder/user.c" <<'C'
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
cp "$folder/user.c" "$folder/user.cc"

library_for() { # library_for BUILD CC CROSS CFLAGS: builds the library for another target
	make -s BUILD="$1" CC="$2" CROSS="$3" CFLAGS="$4" "$1/libtalea.a" "$1/libtalea.so"
}
