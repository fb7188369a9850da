/* Declared probes of tracepoints whose arguments the verifier knows the types of. See declared.h. */
#include "declared.h"

DECLARED_FETCH_WORDS

DECLARED_PROGRAM("tp_btf");
