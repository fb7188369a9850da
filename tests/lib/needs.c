/* What a test needs of the machine: see needs.h. Owns no state; called by tests only. */
#include "tests/lib/test.h"

#include <cap-ng.h>
#include <unistd.h>

#include "tests/lib/needs.h"

void test_needs_bpf(void)
{
	const char *why = NULL;

	capng_get_caps_process();
	if (geteuid() != 0)
		why = "root";
	else if (!capng_have_capability(CAPNG_EFFECTIVE, CAP_SYS_ADMIN))
		why = "CAP_SYS_ADMIN";
	else if (access("/sys/kernel/btf/vmlinux", R_OK) != 0)
		why = "a kernel with /sys/kernel/btf/vmlinux";
	if (why) {
		print_message("# needs %s\n", why);
		skip();
	}
}
