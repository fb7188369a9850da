/* Declared probes of tracepoints, their arguments taken as words. See declared.h. */
#include "declared.h"

DECLARED_FETCH_WORDS

DECLARED_PROGRAM("raw_tp");
