/*
 * hostile: calls on a key that do what nobody should. The first byte of the argument picks the deed.
 */
#define LOCUS_INPUT (8 << 10)
#include "../../../udf/guest/c/locus.h"

LOCUS_MANIFEST("function bench-hostile-read read-only raw\n"
               "function bench-hostile-write read-write raw\n")

static volatile uint32_t sink;

__attribute__((noinline)) static uint32_t dig(uint32_t n) {
    volatile uint32_t hole[64];
    hole[n % 64] = n;
    if (n != 0xffffffffu) sink = dig(n + 1) + hole[n % 64];
    return sink;
}

LOCUS_EXPORT(locus_call)
uint64_t locus_call(uint32_t function, const unsigned char *arg, uint32_t len) {
    (void)function;
    switch (len ? arg[0] : 0) {
    case 's': /* spin */
        for (;;) sink++;
    case 'd': /* recurse */
        return dig(0);
    case 'm': /* take all memory there is, touch it, and spin */
        for (;;) {
            __SIZE_TYPE__ at = __builtin_wasm_memory_grow(0, 1);
            if (at == (__SIZE_TYPE__)-1) break;
            memset((void *)(at << 16), 1, 65536);
        }
        for (;;) sink++;
    case 'l': /* a result that is longer than there is memory */
        return locus_bytes(0, 0xffffffffu);
    }
    return locus_refuse(1, "no such deed");
}
