#!/bin/bash
# The library for arm64 (compiled, not run) and for musl.
# shellcheck source=tests/compile/common.bash
. "$(dirname "$0")/common.bash"

# xxhash.h alone: a whole /usr/include would mix two C libraries.
mkdir "$scratch/include"
cp "$(echo '#include <xxhash.h>' | gcc -E - | sed -n 's/^# 1 "\(.*xxhash\.h\)".*/\1/p' | head -n 1)" "$scratch/include"
arm64=aarch64-linux-gnu-

arm64_links() {
	"${arm64}gcc" -O2 -Wall -Werror -Iclient/include -o "$scratch/user-arm64" "$scratch/user.c" "$@"
}
arm64_is() {
	"${arm64}readelf" -h "$scratch/arm64/libtalea.so" | grep -w AArch64 &&
		! "${arm64}readelf" -lW "$scratch/arm64/libtalea.so" | grep -w TLS
}
musl_links() {
	musl-gcc -static -O2 -Wall -Werror -Iclient/include -o "$scratch/user-musl" "$scratch/user.c" \
		"$scratch/musl/libtalea.a"
}
musl_library() {
	make -s BUILD="$scratch/musl" CC=musl-gcc CFLAGS="-O2 -isystem $scratch/include" "$scratch/musl/libtalea.a"
}

plan 8
step "the library builds for arm64" \
	library_for "$scratch/arm64" "${arm64}gcc" "$arm64" "-O2 -isystem $scratch/include"
step "the arm64 library is one, without thread-local storage" arm64_is
step "a program links for arm64, static libtalea" arm64_links "$scratch/arm64/libtalea.a"
step "a program links for arm64, shared libtalea" arm64_links "-L$scratch/arm64" -ltalea
step "the library builds with musl" musl_library
step "a program links with musl" musl_links
step "the program runs with musl" "$scratch/user-musl"
step "the library builds with clang" library_for "$scratch/clang" "$clang" "" -O2
exit $failures
