/* Declared probes of the return of a kernel function: arguments, then the result. See declared.h. */
#include "declared.h"

DECLARED_FETCH_WORDS

DECLARED_PROGRAM("fexit");
