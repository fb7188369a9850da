#!/bin/bash
# Two C++ units share an inline function and a template that add; they link and run. The linker must discard the
# sections of the COMDAT functions that it discards. Both compilers, with and without optimisation, static and
# shared library.
# shellcheck source=tests/compile/common.bash
. "$(dirname "$0")/common.bash"

cat >"$folder/shared.hh" <<'C'
#include <talea.h>
extern struct talea_counter hits;
inline void count(void) { talea_inc(hits); }
template <typename T> void count_many(T n) { talea_add(hits, n); }
struct page { page() { talea_inc(hits); } };
C
cat >"$folder/one.cc" <<'C'
#include "shared.hh"
struct talea_counter hits = TALEA_COUNTER_INIT;
int other(void);
int main() { count(); count_many(3u); page p; (void)p; return other(); }
C
cat >"$folder/two.cc" <<'C'
#include "shared.hh"
int other(void) { count(); count_many(3u); page p; (void)p; return 0; }
C

links() { # links COMPILER FLAGS... -- LIBRARIES
	local compiler=$1 flags=()
	shift
	while [ "$1" != -- ]; do
		flags+=("$1")
		shift
	done
	shift
	rm -f "$folder/program"
	for unit in one two; do
		"$compiler" "${flags[@]}" -Wall -Iclient/include -c -o "$folder/$unit.o" \
			"$folder/$unit.cc" || return
	done
	"$compiler" "${flags[@]}" -o "$folder/program" "$folder/one.o" "$folder/two.o" "$@" &&
		LD_LIBRARY_PATH=$build "$folder/program"
}

plan 20
for compiler in g++ "$clangxx"; do
	for level in -O0 -O2; do
		for mode in "" -fPIE "-ffunction-sections -Xlinker --gc-sections" -fPIC; do
			# shellcheck disable=SC2086
			step "units link and run: ${compiler##*/} $level $mode, static libtalea" \
				links "$compiler" $level $mode -- "$build/libtalea.a"
		done
		step "units link and run: ${compiler##*/} $level, shared libtalea" \
			links "$compiler" $level -- "-L$build" -ltalea
	done
done
finish
