/*
 * square: the smallest guest in C, a pure function. ../go/square and ../rust/square.rs are the same.
 */
#include "../../../udf/guest/c/locus.h"

LOCUS_MANIFEST("function square pure json\n")

LOCUS_EXPORT(locus_call)
uint64_t locus_call(uint32_t function, const unsigned char *arg, uint32_t len) {
    static char out[LOCUS_DIGITS];
    int64_t x;
    (void)function;
    if (!locus_json_integer(arg, len, &x)) return locus_refuse(LOCUS_BAD_ARGUMENT, "the argument must be a whole number");
    return locus_bytes(out, locus_digits(out, (int64_t)((uint64_t)x * (uint64_t)x)));
}
