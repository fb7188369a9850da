#!/bin/bash
# The names, libraries and sections of libtalea that others see.
# shellcheck source=tests/compile/common.bash
. "$(dirname "$0")/common.bash"
version=$(sed -n 's/^#define TALEA_VERSION "\(.*\)"$/\1/p' client/include/talea.h)
so=$build/libtalea.so.$version
major=${version%%.*}

soname() { same "libtalea.so.$major" "$(objdump -p "$so" | awk '$1 == "SONAME" { print $2 }')"; }
links() {
	same "$(readlink -f "$so") $(readlink -f "$so")" \
		"$(readlink -f "$build/libtalea.so.$major") $(readlink -f "$build/libtalea.so")"
}
exports() {
	same "$(tests/lint/map "$version")" "$(nm -D --defined-only "$so" |
		sed -nE 's/^[0-9a-f]+ [^A] ([^@]*)@@LIBTALEA_[0-9.]+$/\1/p' | sort)"
}
nothing_else() { same "" "$(nm -D --defined-only "$so" | grep -v ' A LIBTALEA_' | grep -v '@@LIBTALEA_' || true)"; }
# glibc keeps __rseq_offset in its dynamic linker.
needed() {
	same "libc.so.6" "$(objdump -p "$so" | awk '$1 == "NEEDED" && $2 !~ /^ld-linux/ { print $2 }')"
}
no_tls() { ! readelf -lW "$so" | grep -w TLS && ! nm "$build/libtalea.a" | grep -E '__tls_get_addr| [bd] .*\.tls'; }
no_relocations_in_text() { ! readelf -dW "$so" | grep -w TEXTREL; }
no_constructors_run_code() { ! readelf -SW "$build/libtalea.a" | grep -E '\.(preinit|ctors)'; }
archive_exports() {
	same "$(tests/lint/map "$version")" \
		"$(nm -g --defined-only "$build/libtalea.a" | awk 'NF == 3 { print $3 }' | sort)"
}
no_stack_exec() { readelf -lW "$so" | awk '$1 == "GNU_STACK" && $7 == "RW" { ok = 1 } END { exit !ok }'; }

# Libraries never print, end the process or install handlers (DESIGN 4).
quiet() {
	! nm -D --undefined-only "$so" | sed 's/@.*//' |
		grep -wE 'printf|puts|putchar|perror|vprintf|stderr|stdout|syslog|abort|exit|_exit|sigaction|signal'
}
# pthread_atfork is in the static part of glibc, the table is the linker's.
undefined_in_archive() {
	same "" "$(nm --undefined-only "$build/libtalea.a" | awk 'NF == 2 && $1 == "U" { print $2 }' |
		grep -vxF -e pthread_atfork -e _GLOBAL_OFFSET_TABLE_ |
		grep -vxF -f <(nm -D --undefined-only "$so" | awk '{ sub(/@.*/, "", $2); print $2 }'))"
}

plan 12
step "the soname is libtalea.so.$major" soname
step "the links lead to the library" links
step "the shared library exports exactly its map" exports
step "the shared library exports no name without a version" nothing_else
step "the static library's global names are exactly the map" archive_exports
step "the shared library needs libc alone" needed
step "the library has no thread-local storage" no_tls
step "the shared library has no text relocations" no_relocations_in_text
step "the library has no early constructors" no_constructors_run_code
step "the shared library asks for no executable stack" no_stack_exec
step "the library neither prints, nor ends the process, nor handles signals" quiet
step "the static library needs nothing that the shared one does not" undefined_in_archive
finish
