/*
 * keyvalue: the smallest calls on a key: bench-load answers with its value, bench-store writes the argument there.
 */
#define LOCUS_INPUT (8 << 10)
#include "../../../udf/guest/c/locus.h"

LOCUS_MANIFEST("function bench-load read-only raw\n"
               "function bench-store read-write raw\n")

enum { LOAD, STORE };

LOCUS_EXPORT(locus_call)
uint64_t locus_call(uint32_t function, const unsigned char *arg, uint32_t len) {
    static unsigned char key[4096], value[4096];
    int64_t key_len = locus_key(key, sizeof key);
    if (key_len > (int64_t)sizeof key) return locus_refuse(1, "the key is longer than 4096 bytes");
    if (function == STORE) {
        locus_put(key, (uint32_t)key_len, arg, len, 0);
        return locus_bytes(0, 0);
    }
    int64_t n = locus_get(key, (uint32_t)key_len, value, sizeof value);
    if (n == LOCUS_FAILED) return 0;
    if (n < 0 || n > (int64_t)sizeof value) return locus_refuse(1, "there is no value of at most 4096 bytes");
    return locus_bytes(value, (uint32_t)n);
}
