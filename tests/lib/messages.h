/*
 * Well-formed messages of the control protocol, one at a time in `buffer`: what tests of its checks
 * begin from. Each returns the message, for who spoils it.
 */
#ifndef TESTS_LIB_MESSAGES_H
#define TESTS_LIB_MESSAGES_H

#include "shm/wire_admin.h"

extern char buffer[WIRE_MAX]; /* 8-byte aligned */

struct wire_head head_of(uint16_t kind, size_t length);
struct wire_hello *make_hello(void);
struct wire_register *make_register(unsigned int nr);
struct wire_registered *make_registered(unsigned int nr, const char *text);
struct wire_error *make_error(const char *text);
struct wire_answer *make_answer(uint32_t what, uint32_t nr, size_t record);
struct wire_change *make_change(uint32_t op, unsigned int nr);
struct wire_probe_change *make_probe(uint32_t op, const char *text);
struct wire_query *make_query(uint32_t what, const char *name);
void *make_records(uint32_t what, uint32_t nr, size_t head, size_t record);
struct wire_lanes *make_lanes(uint32_t cpus_nr);
struct wire_changes *make_changes(uint32_t nr);

#endif
