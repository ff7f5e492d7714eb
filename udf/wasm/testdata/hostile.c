/*
 * hostile: a guest that does what its argument says, mostly what it should not. The tests of package
 * udf/wasm use it to show that the host survives. The first byte of the argument picks the deed.
 */
#define LOCUS_INPUT (1 << 20)
#include "../../guest/c/locus.h"

LOCUS_MANIFEST("function pure pure raw\n"
               "function reader read-only raw\n"
               "function writer read-write raw\n"
               "function range range raw\n"
               "function map map raw\n")

#define BEYOND ((void *)0x7ffffff0u)

static unsigned char buf[4096];
static uint32_t visits; /* survives calls, as nothing should rely on */
static volatile uint32_t sink;

static uint64_t number(uint64_t v) {
    for (int i = 0; i < 8; i++) buf[i] = (unsigned char)(v >> (8 * i));
    return locus_bytes(buf, 8);
}

__attribute__((noinline)) static uint32_t dig(uint32_t n) {
    volatile uint32_t hole[64];
    hole[n % 64] = n;
    if (n != 0xffffffffu) sink = dig(n + 1) + hole[n % 64];
    return sink;
}

LOCUS_EXPORT(locus_call)
uint64_t locus_call(uint32_t function, const unsigned char *arg, uint32_t len) {
    (void)function;
    visits++;
    if (len == 0) return locus_bytes(0, 0);
    const unsigned char *rest = arg + 1;
    uint32_t n = len - 1;
    switch (arg[0]) {
    case '=': /* echo */
        return locus_bytes(rest, n);
    case 'v': /* how many calls has this instance seen? */
        return number(visits);
    case 's': /* spin */
        for (;;) sink++;
    case 't': /* trap */
        __builtin_trap();
    case 'd': /* recurse without end */
        return number(dig(0));
    case 'e': /* refuse */
        locus_error(42, (const char *)rest, n);
        return 0;
    case 'E': /* refuse with a message that is not there */
        locus_error(1, BEYOND, 100);
        return 0;
    case 'r': /* a result outside of memory */
        return locus_bytes(BEYOND, 100);
    case 'R': /* a result that is longer than memory */
        return locus_bytes(buf, 1 << 22);
    case 'h': /* a result above the host's limit */
        return locus_bytes(0, 0xffffffffu);
    case 'm': /* take all memory there is */
        while (__builtin_wasm_memory_grow(0, 1) != (__SIZE_TYPE__)-1) {
        }
        return number(__builtin_wasm_memory_size(0));
    case 'k': /* a key that is outside */
        return number((uint64_t)locus_get(BEYOND, 16, buf, sizeof buf));
    case 'K': /* a key whose length wraps around */
        return number((uint64_t)locus_get(buf, 0xffffffffu, buf, sizeof buf));
    case 'b': /* a buffer that is outside, for a key that does not exist */
        return number((uint64_t)locus_get("nothing", 7, BEYOND, 16));
    case 'i': /* the call's id, to where there is no memory */
        locus_call_id(BEYOND);
        return 0;
    case 'n': /* random bytes, to where there is no memory */
        locus_random(BEYOND, 1 << 30);
        return 0;
    case 'N': /* random bytes */
        locus_random(buf, 16);
        return locus_bytes(buf, 16);
    case 'I': /* the call's id, time and key */
        locus_call_id(buf);
        *(uint64_t *)(buf + 24) = locus_timestamp();
        return locus_bytes(buf, 32 + (uint32_t)locus_key(buf + 32, 100));
    case 'g': /* get a key, into a buffer of 8 bytes */
        {
            int64_t got = locus_get(rest, n, buf, 8);
            return got >= 0 && got <= 8 ? locus_bytes(buf, (uint32_t)got) : number((uint64_t)got);
        }
    case 'p': /* put a key under itself */
        return number((uint64_t)locus_put(rest, n, rest, n, 0));
    case 'T': /* a time to live that is out of range */
        return number((uint64_t)locus_put("k", 1, "v", 1, -5));
    case 'w': /* write without end */
        while (locus_put(rest, n, locus_input, 4096, 0) == 0) {
        }
        return number(1);
    case 'D': /* delete a key */
        return number((uint64_t)locus_delete(rest, n));
    case 'o': /* open scans without end */
        while (locus_scan_open(0, 0, 0, 0) >= 0) {
        }
        return number(1);
    case 'x': /* a scan that is not open */
        return number((uint64_t)locus_scan_next(7, buf, sizeof buf));
    case 'X': /* a scan with a wild number */
        locus_scan_close(-1);
        return number((uint64_t)locus_scan_next(-1, buf, sizeof buf));
    case 'c': /* count the records of everything, with a buffer that is at first too small */
        {
            static unsigned char batch[256 << 10];
            uint64_t records = 0;
            int32_t scan = locus_scan_open(rest, n, 0, 0);
            for (;;) {
                int64_t got = locus_scan_next(scan, batch, 10);
                if (got > 10) got = locus_scan_next(scan, batch, sizeof batch);
                if (got <= 0) break;
                locus_record r;
                for (const unsigned char *p = batch; locus_next(&p, batch + got, &r);) records++;
            }
            locus_scan_close(scan);
            return number(records);
        }
    case 'l': /* log without end */
        for (int i = 0; i < 1000; i++) locus_log((const char *)locus_input, 5000);
        return number(1);
    }
    return number(0);
}

static uint64_t records;
static unsigned char mode;

LOCUS_EXPORT(locus_range_init)
void locus_range_init(uint32_t function, const unsigned char *arg, uint32_t len) {
    (void)function;
    mode = len ? arg[0] : 0;
    records = 0;
    if (mode == 'e') locus_error(7, "no", 2);
}

LOCUS_EXPORT(locus_range_add)
void locus_range_add(const unsigned char *batch, uint32_t len) {
    locus_record r;
    for (const unsigned char *p = batch; locus_next(&p, batch + len, &r);) records++;
    if (mode == 't') __builtin_trap();
    if (mode == 'g') locus_get("k", 1, buf, sizeof buf);
    if (mode == 's')
        for (;;) sink++;
}

LOCUS_EXPORT(locus_range_merge)
void locus_range_merge(const unsigned char *encoded, uint32_t len) {
    if (len != 8) {
        locus_error(1, "an accumulator is not 8 bytes long", 34);
        return;
    }
    records += locus_load64(encoded);
}

LOCUS_EXPORT(locus_range_encode)
uint64_t locus_range_encode(void) { return mode == 'r' ? locus_bytes(BEYOND, 8) : number(records); }

LOCUS_EXPORT(locus_range_result)
uint64_t locus_range_result(void) { return number(records); }

/* The keys, and once more the last one, as what is returned. */
LOCUS_EXPORT(locus_map)
uint64_t locus_map(const unsigned char *batch, uint32_t len) {
    locus_record r = {0};
    for (const unsigned char *p = batch; locus_next(&p, batch + len, &r);) locus_emit(r.key, r.key_len);
    __builtin_memcpy(buf, &r.key_len, 4);
    memcpy(buf + 4, r.key, r.key_len);
    return locus_bytes(buf, 4 + r.key_len);
}
