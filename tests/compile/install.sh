#!/bin/bash
# The installed files are enough to build and run a program, and uninstall removes all of them.
# shellcheck source=tests/compile/common.bash
. "$(dirname "$0")/common.bash"
root=$folder/root
version=$(sed -n 's/^#define TALEA_VERSION "\(.*\)"$/\1/p' client/include/talea.h)

# -o: make installs the build of the tests as it is.
installs() { make -s BUILD="$build" DESTDIR="$root" PREFIX=/opt/talea "$@" install; }
files() { find "$root" ! -type d -printf '%P\n' | sort; }
all_there() {
	local file
	for file in include/talea.h include/talea_add.h include/talea_rseq.h include/talea.bpf.h lib/libtalea.a lib/libtalea.so lib/libtalea.so."$version" \
		lib/pkgconfig/talea.pc bin/talea sbin/talead; do
		[ -e "$root/opt/talea/$file" ] || {
			echo "not installed: $file"
			return 1
		}
	done
}
flags() { PKG_CONFIG_LIBDIR=$root/opt/talea/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$root pkgconf "$@" talea; }
compiles() { # the example of the header, with the command in its comment
	# shellcheck disable=SC2046
	gcc -Wall -Werror -o "$folder/user" "$folder/user.c" $(flags --cflags --libs) &&
		LD_LIBRARY_PATH=$root/opt/talea/lib "$folder/user"
}
example() {
	{
		echo '#include <stdio.h>'
		sed -n '/^ \*\t#include <talea.h>/,/^ \*\t}/s/^ \*\t//p' client/include/talea.h
	} >"$folder/example.c"
	# shellcheck disable=SC2046
	gcc -Wall -Werror -o "$folder/example" "$folder/example.c" $(flags --cflags --libs)
}
is_version() { [ "$(flags --modversion)" = "$version" ]; }
other_prefix() {
	rm -rf "$root"
	installs LIBDIR=/opt/talea/lib64 &&
		grep -qx 'libdir=/opt/talea/lib64' "$root/opt/talea/lib64/pkgconfig/talea.pc"
}
uninstalls() {
	make -s BUILD="$build" DESTDIR="$root" PREFIX=/opt/talea LIBDIR=/opt/talea/lib64 uninstall && [ -z "$(files)" ] || {
		files
		return 1
	}
}

plan 7
step "install puts everything below DESTDIR and PREFIX" installs
step "nothing is missing" all_there
step "pkg-config knows the version" is_version
step "a program builds with pkg-config and runs" compiles
step "the example of talea.h builds" example
step "talea.pc is made anew when the place changes" other_prefix
step "uninstall leaves no file" uninstalls
finish
