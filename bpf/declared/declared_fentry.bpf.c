/* Declared probes of the entry of a kernel function. See declared.h. */
#include "declared.h"

DECLARED_FETCH_WORDS

DECLARED_PROGRAM("fentry");
