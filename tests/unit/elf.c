/*
 * What is found in programs and libraries is what the dynamic linker finds, and the places of a
 * USDT's arguments are read as an assembler means them. Files that are none are refused.
 */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/keeper/probe/symbols/elf.h"
#include "daemon/keeper/probe/symbols/usdt.h"
#include "tests/lib/usdt.h"

#define SELF "/proc/self/exe"

long elf_test_function(long a);
__attribute__((noinline)) long elf_test_function(long a)
{
	USDT1(elf_test, site, a);
	return a + 1;
}

static bool same_file(const char *a, const char *b)
{
	struct stat x, y;

	return !stat(a, &x) && !stat(b, &y) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static void a_library_is_the_one_that_the_linker_took(void **state)
{
	char path[512], small[4];
	Dl_info info;

	(void)state;
	assert_true(dladdr((void *)getppid, &info) != 0);
	assert_int_equal(elf_library_find("libc.so.6", path, sizeof(path)), 0);
	assert_true(same_file(path, info.dli_fname));
	assert_true(dladdr((void *)_test_malloc, &info) != 0);
	assert_int_equal(elf_library_find(strrchr(info.dli_fname, '/') + 1, path, sizeof(path)), 0);
	assert_true(same_file(path, info.dli_fname));
	assert_int_equal(elf_library_find("libno-such.so.6", path, sizeof(path)), -ENOENT);
	assert_int_equal(elf_library_find("", path, sizeof(path)), -ENOENT);
	assert_int_equal(elf_library_find("/etc/passwd", path, sizeof(path)), 0);
	assert_string_equal(path, "/etc/passwd");
	assert_int_equal(elf_library_find("/etc", path, sizeof(path)), -ENOEXEC);
	assert_int_equal(elf_library_find("/dev/null", path, sizeof(path)), -ENOEXEC);
	assert_int_equal(elf_library_find("/no/such", path, sizeof(path)), -ENOENT);
	assert_true(elf_library_find("/etc/passwd", small, sizeof(small)) < 0);
}

/* The place in the file of an address of this process, by its own maps. */
static uint64_t offset_of(const void *address)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	unsigned long long begin, end, offset;
	uint64_t found = 0;
	char line[512];

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps))
		if (sscanf(line, "%llx-%llx %*s %llx", &begin, &end, &offset) == 3 &&
		    (uintptr_t)address >= begin && (uintptr_t)address < end)
			found = (uintptr_t)address - begin + offset;
	fclose(maps);
	return found;
}

static void a_symbol_is_where_the_code_is(void **state)
{
	void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
	static const char *const names[] = { "malloc", "getppid", "pthread_create", "qsort" };
	char path[512];
	uint64_t offset;

	(void)state;
	assert_non_null(libc);
	assert_int_equal(elf_symbol_offset(SELF, "elf_test_function", &offset), 0);
	assert_int_equal(offset, offset_of((void *)elf_test_function));
	assert_int_equal(elf_library_find("libc.so.6", path, sizeof(path)), 0);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		assert_int_equal(elf_symbol_offset(path, names[i], &offset), 0);
		assert_int_equal(offset, offset_of(dlsym(libc, names[i])));
	}
	dlclose(libc);
}

static void what_is_no_function_is_refused(void **state)
{
	uint64_t offset = 42;
	char path[512];

	(void)state;
	assert_int_equal(elf_symbol_offset(SELF, "no_such_function", &offset), -ENOENT);
	assert_int_equal(elf_symbol_offset(SELF, "", &offset), -ENOENT);
	assert_int_equal(elf_symbol_offset(SELF, "stdout", &offset), -ENOENT);
	assert_int_equal(elf_library_find("libc.so.6", path, sizeof(path)), 0);
	assert_int_equal(elf_symbol_offset(path, "memcpy", &offset), -ENOTSUP);
	assert_int_equal(elf_symbol_offset("/etc/passwd", "f", &offset), -ENOEXEC);
	assert_int_equal(elf_symbol_offset("/dev/null", "f", &offset), -ENOEXEC);
	assert_int_equal(elf_symbol_offset("/etc", "f", &offset), -ENOEXEC);
	assert_int_equal(elf_symbol_offset("/no/such", "f", &offset), -ENOENT);
	assert_int_equal(offset, 42);
}

static int is_ours(const char *name, void *arg)
{
	(void)arg;
	return !strcmp(name, "elf_test_function") ? 7 : 0;
}

static int site_is_ours(const struct elf_usdt *u, void *ret)
{
	if (strcmp(u->provider, "elf_test") || strcmp(u->name, "site"))
		return 0;
	*(struct elf_usdt *)ret = *u;
	return 9;
}

static void symbols_and_sites_are_listed(void **state)
{
	struct declared_place place;
	struct elf_usdt u;
	char text[64];

	(void)state;
	assert_int_equal(elf_test_function(1), 2);
	assert_int_equal(elf_symbols_each(SELF, is_ours, NULL), 7);
	assert_int_equal(elf_usdt_each(SELF, site_is_ours, &u), 9);
	assert_in_range(u.offset, offset_of((void *)elf_test_function),
			offset_of((void *)elf_test_function) + 256);
	assert_int_equal(u.semaphore_offset, 0);
	assert_int_equal(usdt_place(u.args, 0, &place, text), 0);
	assert_int_equal(place.bytes, sizeof(long));
	assert_int_equal(place.is_signed, 1);
	assert_int_equal(elf_usdt_each("/etc/passwd", site_is_ours, &u), -ENOEXEC);
}

#if defined(__x86_64__)
static void a_place_is_read_as_an_assembler_means_it(void **state)
{
	static const struct {
		const char *args;
		uint32_t arg;
		struct declared_place place;
	} places[] = {
		{ "8@%rdi", 0, { DECLARED_REGISTER, 8, 0, 0, 112, 0, 0 } },
		{ "-4@%esi 8@%r15", 1, { DECLARED_REGISTER, 8, 0, 0, 0, 0, 0 } },
		{ "-4@%esi", 0, { DECLARED_REGISTER, 4, 1, 0, 104, 0, 0 } },
		{ "1@%al", 0, { DECLARED_REGISTER, 1, 0, 0, 80, 0, 0 } },
		{ "-2@%r9w", 0, { DECLARED_REGISTER, 2, 1, 0, 64, 0, 0 } },
		{ "8@%rsp", 0, { DECLARED_REGISTER, 8, 0, 0, 152, 0, 0 } },
		{ "-4@$-9", 0, { DECLARED_CONSTANT, 4, 1, 0, 0, 0, -9 } },
		{ "8@$0x10", 0, { DECLARED_CONSTANT, 8, 0, 0, 0, 0, 16 } },
		{ "-4@-20(%rbp)", 0, { DECLARED_MEMORY, 4, 1, 0, 32, DECLARED_NO_INDEX, -20 } },
		{ "8@(%rax)", 0, { DECLARED_MEMORY, 8, 0, 0, 80, DECLARED_NO_INDEX, 0 } },
		{ "8@8(%rbx,%rcx,4)", 0, { DECLARED_MEMORY, 8, 0, 2, 40, 88, 8 } },
		{ "8@(%rbx,%rcx)", 0, { DECLARED_MEMORY, 8, 0, 0, 40, 88, 0 } },
		{ "  1@$1   2@$2 ", 1, { DECLARED_CONSTANT, 2, 0, 0, 0, 0, 2 } },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		struct declared_place place;
		char text[64];

		if (usdt_place(places[i].args, places[i].arg, &place, text))
			fail_msg("%s is refused", places[i].args);
		if (memcmp(&place, &places[i].place, sizeof(place)))
			fail_msg("%s is misread", places[i].args);
	}
}
#else
static void a_place_is_read_as_an_assembler_means_it(void **state)
{
	(void)state;
	test_skip("its table is of x86-64");
}
#endif

static void a_place_that_cannot_be_read_is_refused(void **state)
{
	static const char *const bad[] = {
		"8", "8@", "@%rdi", "8@%", "8@%rxx", "8@%xmm0", "3@%rdi", "16@%rdi", "0@%rdi",
		"8@%rdi,", "8@8(%rax", "8@8()", "8@(%rax,%rbx,3)", "8@(%rax,%rbx,16)",
		"8@(%rax,%rbx,0)", "8@symbol(%rip)", "8@$", "8@$1x", "8@99999999999999999999",
		"8@%rdi(%rax)", "-8@-", "8@[",
		"8@%aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	};
	struct declared_place place;
	char text[64];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (usdt_place(bad[i], 0, &place, text) != -EINVAL)
			fail_msg("%s is let through", bad[i]);
	assert_int_equal(usdt_place("8@%rdi", 1, &place, text), -ERANGE);
	assert_int_equal(usdt_place("", 0, &place, text), -ERANGE);
	assert_int_equal(usdt_place("  ", 0, &place, text), -ERANGE);
}

/* A program cut short anywhere, or with any of its first bytes changed, is an error and no crash. */
static void damaged_files_are_refused_or_read_but_never_trusted(void **state)
{
	int fd = memfd_create("damaged", MFD_CLOEXEC);
	FILE *self = fopen(SELF, "re");
	struct elf_usdt u;
	char path[32], *bytes;
	uint64_t offset;
	size_t size;

	(void)state;
	assert_true(fd >= 0 && self != NULL);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	bytes = malloc(4 << 20);
	assert_non_null(bytes);
	size = fread(bytes, 1, 4 << 20, self);
	fclose(self);
	for (size_t cut = 0; cut < size; cut = cut * 5 / 4 + 1) {
		assert_int_equal(ftruncate(fd, 0), 0);
		assert_int_equal(pwrite(fd, bytes, cut, 0), cut);
		elf_symbol_offset(path, "elf_test_function", &offset);
		elf_usdt_each(path, site_is_ours, &u);
	}
	assert_int_equal(pwrite(fd, bytes, size, 0), size);
	for (size_t at = 0; at < 1024; at++) {
		char flipped = (char)(bytes[at] ^ (at & 1 ? 0xff : 0x80));

		assert_int_equal(pwrite(fd, &flipped, 1, (off_t)at), 1);
		elf_symbol_offset(path, "elf_test_function", &offset);
		elf_usdt_each(path, site_is_ours, &u);
		assert_int_equal(pwrite(fd, bytes + at, 1, (off_t)at), 1);
	}
	free(bytes);
	close(fd);
}

/* --- files that cost ------------------------------------------------------------------------- */

#define NAMES_BYTES (16u << 20)
#define SYMBOLS_NR  100000u

static void put(int fd, const void *what, size_t bytes, uint64_t at)
{
	assert_int_equal(pwrite(fd, what, bytes, (off_t)at), (ssize_t)bytes);
}

/* A file with this program's header and three sections: none, symbols, their names. */
static int made_file(uint64_t symbols_bytes, uint64_t names_bytes, Elf64_Ehdr *head, char *path)
{
	int fd = memfd_create("made", MFD_CLOEXEC), self = open(SELF, O_RDONLY | O_CLOEXEC);
	Elf64_Shdr sections[3] = {
		[1] = { .sh_type = SHT_SYMTAB, .sh_offset = 4096, .sh_size = symbols_bytes,
			.sh_link = 2, .sh_entsize = sizeof(Elf64_Sym), .sh_addralign = 8 },
		[2] = { .sh_type = SHT_STRTAB, .sh_offset = 4096 + symbols_bytes,
			.sh_size = names_bytes, .sh_addralign = 1 },
	};

	assert_true(fd >= 0 && self >= 0);
	assert_int_equal(read(self, head, sizeof(*head)), sizeof(*head));
	close(self);
	head->e_phnum = 0;
	head->e_shoff = sizeof(*head);
	head->e_shnum = 3;
	head->e_shstrndx = 2;
	put(fd, head, sizeof(*head), 0);
	put(fd, sections, sizeof(sections), sizeof(*head));
	assert_int_equal(ftruncate(fd, (off_t)(4096 + symbols_bytes + names_bytes)), 0);
	sprintf(path, "/proc/self/fd/%d", fd);
	return fd;
}

static long most_kib(void)
{
	struct rusage used;

	assert_int_equal(getrusage(RUSAGE_SELF, &used), 0);
	return used.ru_maxrss;
}

/* Holes cost who makes the file nothing; read, they would be gigabytes of the keeper. */
static void what_a_file_says_of_its_size_costs_no_memory(void **state)
{
	long before_kib = most_kib();
	struct elf_usdt u;
	Elf64_Ehdr head;
	uint64_t offset;
	char path[32];
	int fd;

	(void)state;
	fd = made_file(1ull << 30, 64, &head, path);
	assert_int_equal(elf_symbol_offset(path, "f", &offset), -ENOENT);
	close(fd);
	fd = made_file(64 * sizeof(Elf64_Sym), 1ull << 30, &head, path);
	assert_int_equal(elf_symbol_offset(path, "f", &offset), -ENOENT);
	assert_int_equal(elf_usdt_each(path, site_is_ours, &u), 0);
	/* More sections, or segments, than fit into the header. */
	head.e_shnum = 0;
	put(fd, &head, sizeof(head), 0);
	assert_int_equal(elf_symbol_offset(path, "f", &offset), -ENOEXEC);
	head.e_shnum = 3;
	head.e_phnum = PN_XNUM;
	put(fd, &head, sizeof(head), 0);
	assert_int_equal(elf_symbol_offset(path, "f", &offset), -ENOEXEC);
	close(fd);
	assert_in_range(most_kib() - before_kib, 0, 128 << 10);
}

/* Each of many symbols with a name of many bytes: only so much of it is looked at as decides. */
static void long_names_cost_no_time(void **state)
{
	Elf64_Sym sym = { .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC), .st_shndx = 1 };
	Elf64_Sym *symbols = calloc(SYMBOLS_NR, sizeof(*symbols));
	char path[32], *names = malloc(NAMES_BYTES);
	Elf64_Ehdr head;
	uint64_t offset;
	int fd;

	(void)state;
	assert_true(symbols != NULL && names != NULL);
	fd = made_file(SYMBOLS_NR * sizeof(sym), NAMES_BYTES, &head, path);
	for (uint32_t i = 0; i < SYMBOLS_NR; i++)
		symbols[i] = sym;
	memset(names, 'a', NAMES_BYTES);
	names[NAMES_BYTES - 1] = '\0';
	put(fd, symbols, SYMBOLS_NR * sizeof(sym), 4096);
	put(fd, names, NAMES_BYTES, 4096 + SYMBOLS_NR * sizeof(sym));
	assert_int_equal(elf_symbol_offset(path, "aa", &offset), -ENOENT);
	assert_int_equal(elf_symbols_each(path, is_ours, NULL), 0);
	free(symbols);
	free(names);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_library_is_the_one_that_the_linker_took),
		cmocka_unit_test(a_symbol_is_where_the_code_is),
		cmocka_unit_test(what_is_no_function_is_refused),
		cmocka_unit_test(symbols_and_sites_are_listed),
		cmocka_unit_test(a_place_is_read_as_an_assembler_means_it),
		cmocka_unit_test(a_place_that_cannot_be_read_is_refused),
		cmocka_unit_test(damaged_files_are_refused_or_read_but_never_trusted),
		cmocka_unit_test(what_a_file_says_of_its_size_costs_no_memory),
		cmocka_unit_test(long_names_cost_no_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
