/*
 * Symbols and USDT notes of programs and libraries: see elf.h. It reads files and never maps them:
 * a file that becomes shorter meanwhile is then an error and no signal.
 */
#include "daemon/keeper/probe/symbols/elf.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <libelf.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NOTE_TYPE   3 /* NT_STAPSDT */
#define NOTE_OWNER  "stapsdt"
#define HIDDEN	    0x8000 /* of .gnu.version: not the symbol's default version */
#define SYMBOLS_MAX 4000000u
/* The keeper's one thread reads, and a file may have large holes. No program comes near these. */
#define SECTION_MAX  (256u << 20)
#define SECTIONS_MAX (512u << 20) /* of all that is read of one */

#if defined(__x86_64__)
#define MACHINE EM_X86_64
#elif defined(__aarch64__)
#define MACHINE EM_AARCH64
#else
#define MACHINE EM_NONE
#endif

struct file {
	int fd;
	Elf *elf;
	size_t headers_nr;
	uint64_t left; /* bytes of sections that may yet be read */
};

static void file_close(struct file *f)
{
	elf_end(f->elf);
	close(f->fd);
}

/*
 * Does the file have more sections or segments than its header can say? No linked file has, and
 * libelf would allocate memory for each. Files of procfs have no size; they are refused here too.
 */
static bool is_overlong(int fd, const struct stat *st)
{
	Elf64_Ehdr head;

	return st->st_size < (off_t)sizeof(head) ||
	       pread(fd, &head, sizeof(head), 0) != (ssize_t)sizeof(head) ||
	       (head.e_shoff && !head.e_shnum) || head.e_phnum == PN_XNUM;
}

/* A 64-bit program or library of this machine; else -ENOEXEC. */
static int file_open(const char *path, struct file *ret)
{
	struct stat st;
	GElf_Ehdr head;
	int err;

	ret->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (ret->fd < 0)
		return -errno;
	ret->elf = NULL;
	ret->left = SECTIONS_MAX;
	err = fstat(ret->fd, &st) ? -errno : S_ISREG(st.st_mode) ? 0 : -ENOEXEC;
	if (err)
		goto out_close;
	err = -ENOEXEC;
	if (is_overlong(ret->fd, &st) || elf_version(EV_CURRENT) == EV_NONE)
		goto out_close;
	ret->elf = elf_begin(ret->fd, ELF_C_READ, NULL);
	if (!ret->elf || elf_kind(ret->elf) != ELF_K_ELF || gelf_getclass(ret->elf) != ELFCLASS64 ||
	    !gelf_getehdr(ret->elf, &head) || head.e_machine != MACHINE ||
	    head.e_ident[EI_DATA] != (BYTE_ORDER == LITTLE_ENDIAN ? ELFDATA2LSB : ELFDATA2MSB) ||
	    (head.e_type != ET_EXEC && head.e_type != ET_DYN) ||
	    elf_getphdrnum(ret->elf, &ret->headers_nr))
		goto out_close;
	return 0;

out_close:
	file_close(ret);
	return err;
}

/* Finds the offset in the file of what is loaded at an address. */
static int offset_of(const struct file *f, uint64_t address, bool is_code, uint64_t *ret)
{
	for (size_t i = 0; i < f->headers_nr; i++) {
		GElf_Phdr p;

		if (!gelf_getphdr(f->elf, (int)i, &p) || p.p_type != PT_LOAD ||
		    (is_code && !(p.p_flags & PF_X)) || address < p.p_vaddr ||
		    address - p.p_vaddr >= p.p_filesz)
			continue;
		*ret = address - p.p_vaddr + p.p_offset;
		return 0;
	}
	return -ENOENT;
}

/* Reads a section; NULL when it is too large, or cut off. */
static Elf_Data *section_read(struct file *f, Elf_Scn *section, const GElf_Shdr *head)
{
	if (head->sh_type == SHT_NOBITS || head->sh_size > SECTION_MAX || head->sh_size > f->left)
		return NULL;
	f->left -= head->sh_size;
	return elf_getdata(section, NULL);
}

/*
 * The author of the file chose these bytes, and talea shows them. So all of them are printable
 * ASCII, and names have no blank and no colon, as in the texts that name them.
 */
static bool is_plain(const char *s, bool is_name)
{
	for (; *s; s++)
		if (*s < ' ' || *s > '~' || (is_name && (*s == ' ' || *s == ':')))
			return false;
	return true;
}

/* --- symbols ---------------------------------------------------------------------------------- */

struct symbols {
	GElf_Shdr head;
	Elf_Data *data, *versions; /* versions: NULL: none */
	size_t nr;
};

/* Calls visit with each function that is in the file. A non-zero result of visit ends this. */
static int table_each(const struct file *f, const struct symbols *t,
		      int (*visit)(const char *name, const GElf_Sym *sym, bool is_hidden, void *arg),
		      void *arg)
{
	for (size_t i = 0; i < t->nr; i++) {
		GElf_Versym version = 0;
		const char *name;
		GElf_Sym sym;
		int result;

		if (!gelf_getsym(t->data, (int)i, &sym))
			break;
		if ((GELF_ST_TYPE(sym.st_info) != STT_FUNC &&
		     GELF_ST_TYPE(sym.st_info) != STT_GNU_IFUNC) || sym.st_shndx == SHN_UNDEF)
			continue;
		name = elf_strptr(f->elf, t->head.sh_link, sym.st_name);
		if (!name || !*name)
			continue;
		if (t->versions && !gelf_getversym(t->versions, (int)i, &version))
			version = 0;
		result = visit(name, &sym, version & HIDDEN, arg);
		if (result)
			return result;
	}
	return 0;
}

static Elf_Data *versions_find(struct file *f)
{
	Elf_Scn *section = NULL;
	GElf_Shdr head;

	while ((section = elf_nextscn(f->elf, section)))
		if (gelf_getshdr(section, &head) && head.sh_type == SHT_GNU_versym)
			return section_read(f, section, &head);
	return NULL;
}

/* Does the section hold texts? elf_strptr would read all of it, whatever its size. */
static bool has_texts(struct file *f, size_t at)
{
	Elf_Scn *section = elf_getscn(f->elf, at);
	GElf_Shdr head;

	return section && gelf_getshdr(section, &head) && head.sh_type == SHT_STRTAB &&
	       section_read(f, section, &head);
}

/* Visits all tables of the file. A stripped file still has .dynsym. */
static int tables_each(struct file *f,
		       int (*visit)(const char *name, const GElf_Sym *sym, bool is_hidden, void *arg),
		       void *arg)
{
	Elf_Scn *section = NULL;
	int result = 0;

	while (!result && (section = elf_nextscn(f->elf, section))) {
		struct symbols t = { 0 };

		if (!gelf_getshdr(section, &t.head) ||
		    (t.head.sh_type != SHT_DYNSYM && t.head.sh_type != SHT_SYMTAB))
			continue;
		t.data = section_read(f, section, &t.head);
		if (!t.data || !has_texts(f, t.head.sh_link))
			continue;
		t.nr = t.data->d_size / sizeof(Elf64_Sym);
		t.nr = t.nr < SYMBOLS_MAX ? t.nr : SYMBOLS_MAX;
		t.versions = t.head.sh_type == SHT_DYNSYM ? versions_find(f) : NULL;
		result = table_each(f, &t, visit, arg);
	}
	return result;
}

/* The best match: a default version before an old one, a global symbol before a local one. */
struct symbol_match {
	const char *symbol;
	uint64_t address;
	unsigned int rank; /* 0: none yet */
	bool is_ifunc, is_ambiguous;
};

static int symbol_match_visit(const char *name, const GElf_Sym *sym, bool is_hidden, void *arg)
{
	struct symbol_match *w = arg;
	size_t length = strlen(w->symbol);
	unsigned int rank;

	/* malloc@@GLIBC_2.2.5 in a .symtab */
	if (strncmp(name, w->symbol, length) || (name[length] && name[length] != '@'))
		return 0;
	is_hidden |= name[length] == '@' && name[length + 1] != '@';
	rank = (GELF_ST_BIND(sym->st_info) == STB_LOCAL ? 1 : 3) - (is_hidden ? 1 : 0) + 1;
	if (rank == w->rank && sym->st_value != w->address)
		w->is_ambiguous = true;
	if (rank <= w->rank)
		return 0;
	w->rank = rank;
	w->address = sym->st_value;
	w->is_ifunc = GELF_ST_TYPE(sym->st_info) == STT_GNU_IFUNC;
	w->is_ambiguous = false;
	return 0;
}

int elf_symbol_offset(const char *path, const char *symbol, uint64_t *ret_offset)
{
	struct symbol_match w = { .symbol = symbol };
	struct file f;
	int err = file_open(path, &f);

	if (err)
		return err;
	tables_each(&f, symbol_match_visit, &w);
	if (!w.rank)
		err = -ENOENT;
	else if (w.is_ifunc)
		err = -ENOTSUP;
	else if (w.is_ambiguous)
		err = -ENOTUNIQ;
	else
		err = offset_of(&f, w.address, true, ret_offset);
	file_close(&f);
	return err;
}

struct names {
	int (*visit)(const char *name, void *arg);
	void *arg;
};

static int names_visit(const char *name, const GElf_Sym *sym, bool is_hidden, void *arg)
{
	struct names *n = arg;
	size_t length = 0;
	char plain[256];

	if (is_hidden || GELF_ST_TYPE(sym->st_info) == STT_GNU_IFUNC)
		return 0;
	for (; name[length] && name[length] != '@'; length++) {
		if (length == sizeof(plain) - 1)
			return 0;
		plain[length] = name[length];
	}
	plain[length] = '\0';
	return is_plain(plain, true) ? n->visit(plain, n->arg) : 0;
}

int elf_symbols_each(const char *path, int (*visit)(const char *name, void *arg), void *arg)
{
	struct names n = { visit, arg };
	struct file f;
	int err = file_open(path, &f);

	if (err)
		return err;
	err = tables_each(&f, names_visit, &n);
	file_close(&f);
	return err;
}

/* --- USDT ------------------------------------------------------------------------------------- */

/* A note has three addresses, then three texts: provider, name, arguments. Else -EINVAL. */
static int note_read(const struct file *f, const char *desc, size_t size, uint64_t base,
		     struct elf_usdt *ret)
{
	struct {
		char *to;
		size_t size;
	} texts[] = { { ret->provider, sizeof(ret->provider) }, { ret->name, sizeof(ret->name) },
		      { ret->args, sizeof(ret->args) } };
	uint64_t addresses[3]; /* of the site, of .stapsdt.base when it was linked, of the semaphore */
	uint64_t moved;
	int err;

	if (size < sizeof(addresses))
		return -EINVAL;
	memcpy(addresses, desc, sizeof(addresses));
	desc += sizeof(addresses);
	size -= sizeof(addresses);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		size_t length = strnlen(desc, size);

		if (length == size || length >= texts[i].size)
			return -EINVAL;
		memcpy(texts[i].to, desc, length + 1);
		if (!is_plain(texts[i].to, texts[i].to != ret->args))
			return -EINVAL;
		desc += length + 1;
		size -= length + 1;
	}
	/* prelink moves the addresses of a file, but not those in its notes. */
	moved = base && addresses[1] ? base - addresses[1] : 0;
	err = offset_of(f, addresses[0] + moved, true, &ret->offset);
	ret->semaphore_offset = 0;
	if (!err && addresses[2])
		err = offset_of(f, addresses[2] + moved, false, &ret->semaphore_offset);
	return err;
}

static int notes_each(const struct file *f, Elf_Data *data, uint64_t base,
		      int (*visit)(const struct elf_usdt *u, void *arg), void *arg)
{
	size_t at = 0, next, name_at, desc_at;
	GElf_Nhdr head;

	while ((next = gelf_getnote(data, at, &head, &name_at, &desc_at)) > 0) {
		const char *bytes = data->d_buf;
		struct elf_usdt u;
		int result;

		at = next;
		if (head.n_type != NOTE_TYPE || head.n_namesz != sizeof(NOTE_OWNER) ||
		    memcmp(bytes + name_at, NOTE_OWNER, sizeof(NOTE_OWNER)) ||
		    note_read(f, bytes + desc_at, head.n_descsz, base, &u))
			continue;
		result = visit(&u, arg);
		if (result)
			return result;
	}
	return 0;
}

/* Finds the section of that name and kind; NULL: none. */
static Elf_Scn *section_find(struct file *f, const char *name, uint32_t type, GElf_Shdr *ret)
{
	Elf_Scn *section = NULL;
	size_t names_at;

	if (elf_getshdrstrndx(f->elf, &names_at) || !has_texts(f, names_at))
		return NULL;
	while ((section = elf_nextscn(f->elf, section))) {
		const char *s;

		if (!gelf_getshdr(section, ret) || ret->sh_type != type)
			continue;
		s = elf_strptr(f->elf, names_at, ret->sh_name);
		if (s && !strcmp(s, name))
			return section;
	}
	return NULL;
}

int elf_usdt_each(const char *path, int (*visit)(const struct elf_usdt *u, void *arg), void *arg)
{
	GElf_Shdr head;
	Elf_Scn *section;
	Elf_Data *data;
	struct file f;
	uint64_t base;
	int err = file_open(path, &f);

	if (err)
		return err;
	base = section_find(&f, ".stapsdt.base", SHT_PROGBITS, &head) ? head.sh_addr : 0;
	section = section_find(&f, ".note.stapsdt", SHT_NOTE, &head);
	data = section ? section_read(&f, section, &head) : NULL;
	if (data)
		err = notes_each(&f, data, base, visit, arg);
	file_close(&f);
	return err;
}
