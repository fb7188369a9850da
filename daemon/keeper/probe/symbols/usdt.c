/*
 * Where a USDT keeps its arguments, by the text that the compiler wrote into its note: registers,
 * memory at a register's address, constants, in the syntax of an assembler. Owns nothing. Called by
 * declared.c.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/keeper/probe/symbols/usdt.h"

#define NAME_MAX_BYTES 16

#if defined(__x86_64__)
/* The registers' offsets in the kernel's struct pt_regs. */
static const struct {
	const char *names[4]; /* of 8, 4, 2 and 1 byte */
	uint16_t offset;
} registers[] = {
	{ { "r15", "r15d", "r15w", "r15b" }, 0 },  { { "r14", "r14d", "r14w", "r14b" }, 8 },
	{ { "r13", "r13d", "r13w", "r13b" }, 16 }, { { "r12", "r12d", "r12w", "r12b" }, 24 },
	{ { "rbp", "ebp", "bp", "bpl" }, 32 },	   { { "rbx", "ebx", "bx", "bl" }, 40 },
	{ { "r11", "r11d", "r11w", "r11b" }, 48 }, { { "r10", "r10d", "r10w", "r10b" }, 56 },
	{ { "r9", "r9d", "r9w", "r9b" }, 64 },	   { { "r8", "r8d", "r8w", "r8b" }, 72 },
	{ { "rax", "eax", "ax", "al" }, 80 },	   { { "rcx", "ecx", "cx", "cl" }, 88 },
	{ { "rdx", "edx", "dx", "dl" }, 96 },	   { { "rsi", "esi", "si", "sil" }, 104 },
	{ { "rdi", "edi", "di", "dil" }, 112 },	   { { "rip", NULL, NULL, NULL }, 128 },
	{ { "rsp", "esp", "sp", "spl" }, 152 },
};

static int register_named(const char *name, uint16_t *ret)
{
	for (size_t i = 0; i < sizeof(registers) / sizeof(registers[0]); i++)
		for (size_t j = 0; j < 4; j++)
			if (registers[i].names[j] && !strcmp(registers[i].names[j], name)) {
				*ret = registers[i].offset;
				return 0;
			}
	return -EINVAL;
}
#elif defined(__aarch64__)
static int register_named(const char *name, uint16_t *ret)
{
	unsigned long nr;
	char *end;

	if (!strcmp(name, "sp"))
		nr = 31;
	else if (name[0] != 'x' && name[0] != 'w')
		return -EINVAL;
	else if (nr = strtoul(name + 1, &end, 10), *end || end == name + 1 || nr > 30)
		return -EINVAL;
	*ret = (uint16_t)(nr * 8);
	return 0;
}
#else
static int register_named(const char *name, uint16_t *ret)
{
	(void)name;
	(void)ret;
	return -EINVAL;
}
#endif

/* Reads a register's name at *at, with or without %. */
static int take_register(const char **at, uint16_t *ret)
{
	char name[NAME_MAX_BYTES];
	size_t length;

	*at += **at == '%';
	length = strspn(*at, "abcdefghijklmnopqrstuvwxyz0123456789");
	if (!length || length >= sizeof(name))
		return -EINVAL;
	memcpy(name, *at, length);
	name[length] = '\0';
	*at += length;
	return register_named(name, ret);
}

static int take_number(const char **at, __s64 *ret)
{
	char *end;

	errno = 0;
	*ret = strtoll(*at, &end, 0);
	if (end == *at || errno)
		return -EINVAL;
	*at = end;
	return 0;
}

/* Reads "(%rbp)" or "(%rbx,%rax,8)"; the caller has read what stands before it. */
static int take_memory(const char **at, struct declared_place *p)
{
	__s64 scale = 1;
	int err;

	p->kind = DECLARED_MEMORY;
	p->index = DECLARED_NO_INDEX;
	if (*(*at)++ != '(')
		return -EINVAL;
	err = take_register(at, &p->reg);
	if (!err && **at == ',') {
		++*at;
		err = take_register(at, &p->index);
		if (!err && **at == ',') {
			++*at;
			err = take_number(at, &scale);
		}
	}
	while (!err && scale > 1) {
		err = scale & 1 || ++p->scale > 3 ? -EINVAL : 0;
		scale /= 2;
	}
	return err || scale != 1 || *(*at)++ != ')' ? -EINVAL : 0;
}

/* Reads "[sp,16]" or "[x0]" of arm64; the caller has removed the blanks. */
static int take_brackets(const char **at, struct declared_place *p)
{
	int err;

	++*at;
	p->kind = DECLARED_MEMORY;
	p->index = DECLARED_NO_INDEX;
	err = take_register(at, &p->reg);
	if (!err && **at == ',') {
		++*at;
		err = take_number(at, &p->value);
	}
	return err || *(*at)++ != ']' ? -EINVAL : 0;
}

static int take_place(const char *at, struct declared_place *p)
{
	__s64 bytes;
	int err = take_number(&at, &bytes);

	memset(p, 0, sizeof(*p));
	p->is_signed = bytes < 0;
	bytes = bytes < 0 ? -bytes : bytes;
	if (err || *at++ != '@' || (bytes != 1 && bytes != 2 && bytes != 4 && bytes != 8))
		return -EINVAL;
	p->bytes = (uint8_t)bytes;
	if (*at == '[') {
		err = take_brackets(&at, p);
	} else if (*at == '%' || (*at >= 'a' && *at <= 'z')) {
		p->kind = DECLARED_REGISTER;
		err = take_register(&at, &p->reg);
	} else if (*at == '(') {
		err = take_memory(&at, p);
	} else {
		p->kind = DECLARED_CONSTANT;
		at += *at == '$';
		err = take_number(&at, &p->value);
		if (!err && *at == '(')
			err = take_memory(&at, p);
	}
	return err || *at ? -EINVAL : 0;
}

int usdt_place(const char *args, uint32_t arg, struct declared_place *ret, char *ret_text)
{
	size_t length = 0;
	bool is_inside = false;

	for (;; arg--) {
		args += strspn(args, " ");
		if (!*args)
			return -ERANGE;
		/* Blanks between brackets belong to the operand. */
		for (length = 0; *args && (*args != ' ' || is_inside); args++) {
			is_inside = *args == '[' || (is_inside && *args != ']');
			if (*args != ' ' && length < 63)
				ret_text[length++] = *args;
		}
		ret_text[length] = '\0';
		if (!arg)
			return take_place(ret_text, ret);
	}
}
