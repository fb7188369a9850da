#!/bin/bash
# The library for arm64 (compiled, not run) and for musl.
# shellcheck source=tests/compile/common.bash
. "$(dirname "$0")/common.bash"

# The cross compilers get xxhash.h alone: a whole /usr/include would mix two C libraries.
mkdir "$folder/include"
cp "$(echo '#include <xxhash.h>' | gcc -E - | sed -n 's/^# 1 "\(.*xxhash\.h\)".*/\1/p' | head -n 1)" "$folder/include"
arm64=aarch64-linux-gnu-

arm64_links() {
	"${arm64}gcc" -O2 -Wall -Werror -Iclient/include -o "$folder/user-arm64" "$folder/user.c" "$@"
}
arm64_is() {
	"${arm64}readelf" -h "$folder/arm64/libtalea.so" | grep -w AArch64 &&
		! "${arm64}readelf" -lW "$folder/arm64/libtalea.so" | grep -w TLS
}
musl_links() {
	musl-gcc -static -O2 -Wall -Werror -Iclient/include -o "$folder/user-musl" "$folder/user.c" \
		"$folder/musl/libtalea.a"
}
musl_library() {
	make -s BUILD="$folder/musl" CC=musl-gcc CFLAGS="-O2 -isystem $folder/include" "$folder/musl/libtalea.a"
}

plan 8
step "the library builds for arm64" \
	library_for "$folder/arm64" "${arm64}gcc" "$arm64" "-O2 -isystem $folder/include"
step "the arm64 library is one, without thread-local storage" arm64_is
step "a program links for arm64, static libtalea" arm64_links "$folder/arm64/libtalea.a"
step "a program links for arm64, shared libtalea" arm64_links "-L$folder/arm64" -ltalea
step "the library builds with musl" musl_library
step "a program links with musl" musl_links
step "the program runs with musl" "$folder/user-musl"
step "the library builds with clang" library_for "$folder/clang" "$clang" "" -O2
finish
