/*
 * spin: a range function that takes most of an entry's fuel for each batch, in divisions that wait for each other: 0.2
 * seconds and more in which it asks the host for nothing.
 */
#define LOCUS_INPUT (128 << 10)
#include "../../../udf/guest/c/locus.h"

LOCUS_MANIFEST("function bench-spin range raw\n")

static volatile uint64_t sink;

LOCUS_EXPORT(locus_range_init)
void locus_range_init(uint32_t function, const unsigned char *arg, uint32_t len) {
    (void)function, (void)arg, (void)len;
}

LOCUS_EXPORT(locus_range_add)
void locus_range_add(const unsigned char *batch, uint32_t len) {
    uint64_t x = len + batch[0];
    for (uint32_t i = 0; i < 40000000; i++) x = 0xffffffffffffffffu / (x | 3) + i;
    sink = x;
}

LOCUS_EXPORT(locus_range_encode)
uint64_t locus_range_encode(void) { return locus_bytes(0, 0); }

LOCUS_EXPORT(locus_range_merge)
void locus_range_merge(const unsigned char *encoded, uint32_t len) { (void)encoded, (void)len; }

LOCUS_EXPORT(locus_range_result)
uint64_t locus_range_result(void) { return locus_bytes(0, 0); }
