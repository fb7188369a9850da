#!/bin/bash
# The public headers compile without a warning in every standard that they promise, with both compilers.
# shellcheck source=tests/compile/common.bash
. "$(dirname "$0")/common.bash"
flags="-Wall -Wextra -pedantic -Werror -Iclient/include"

all_standards() { # all_standards FILE COMPILER STANDARD...
	local file=$1 compiler=$2
	shift 2
	for std; do
		for level in -O0 -O2; do
			# shellcheck disable=SC2086
			step "${file##*/} is clean as $std with ${compiler##*/} $level" \
				"$compiler" -std="$std" $flags $level -c -o "$folder/user.o" "$file"
		done
	done
}

echo '#include <talea.hpp>
void user(taleapp::Counter &c);
void user(taleapp::Counter &c) { ++c; }' >"$folder/raii.cc"

plan 60
all_standards "$folder/user.c" gcc c99 c11 c17 gnu17
all_standards "$folder/user.c" "$clang" c99 c11 c17
all_standards "$folder/user.cc" g++ c++11 c++14 c++17 c++20
all_standards "$folder/user.cc" "$clangxx" c++11 c++14 c++17 c++20
all_standards "$folder/raii.cc" g++ c++11 c++14 c++17 c++20
all_standards "$folder/raii.cc" "$clangxx" c++11 c++14 c++17 c++20
flags="$flags -Wconversion -Wcast-qual -Wundef"
all_standards "$folder/user.c" gcc c17
all_standards "$folder/user.cc" g++ c++17
all_standards "$folder/user.c" "$clang" c17
all_standards "$folder/user.cc" "$clangxx" c++17
flags="-Wall -Werror -Iclient/include -fPIC"
all_standards "$folder/user.c" gcc c17
all_standards "$folder/user.cc" "$clangxx" c++17
all_standards "$folder/user.cc" g++ c++17
finish
