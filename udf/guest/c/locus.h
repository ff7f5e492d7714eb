/*
 * locus.h: functions for Locus in C, without a C library. Version 1 of the ABI (docs/abi.md).
 *
 * A guest includes this header in one file, declares its functions with LOCUS_MANIFEST, and defines
 * locus_call, or the five entries of range functions (examples/guests/c/fieldsum.c), or the two of map
 * functions (locus_range_init, locus_map: docs/abi.md). A whole
 * guest, which doubles the bytes it is given:
 *
 *     #include "locus.h"
 *     LOCUS_MANIFEST("function double pure raw\n")
 *
 *     static unsigned char out[2 * LOCUS_INPUT];
 *
 *     LOCUS_EXPORT(locus_call)
 *     uint64_t locus_call(uint32_t function, const unsigned char *arg, uint32_t len) {
 *         for (uint32_t i = 0; i < len; i++) out[2 * i] = out[2 * i + 1] = arg[i];
 *         return locus_bytes(out, 2 * len);
 *     }
 *
 * Build and register it:
 *
 *     clang --target=wasm32 -O2 -mbulk-memory -nostdlib -Wl,--no-entry -Wl,--stack-first -I udf/guest/c \
 *         -o double.wasm double.c
 *     locus fn register double double.wasm
 *
 * (clang and lld; -I is the folder of this file.) A module with several functions is registered once for each,
 * under its name in the manifest. A module without functions of a kind leaves out that kind's entries.
 *
 * function is the line of the manifest, from 0. Arguments and batches are valid until the entry returns;
 * what locus_bytes names must stay as it is until the next entry. Globals outlive a call, and an instance
 * serves many: keep nothing in them from one call to the next.
 */
#ifndef LOCUS_H
#define LOCUS_H

#include <stdint.h>

/* The largest argument, batch or accumulator that this guest takes; define it before the include to
 * change it. A batch is 64 KiB and one record more, and a record at most 4 KiB + 512 KiB. */
#ifndef LOCUS_INPUT
#define LOCUS_INPUT (1 << 20)
#endif

#define LOCUS_EXPORT(name) __attribute__((export_name(#name)))
#define LOCUS_IMPORT(name) __attribute__((import_module("locus"), import_name(#name)))

/* Compilers make calls of these out of loops and assignments; a C library, if there is one, has better. */
#define LOCUS_BUILTIN __attribute__((weak, no_builtin)) void *
LOCUS_BUILTIN memcpy(void *to, const void *from, __SIZE_TYPE__ n) {
    for (unsigned char *t = to; n--;) *t++ = *(const unsigned char *)from, from = (const unsigned char *)from + 1;
    return to;
}
LOCUS_BUILTIN memmove(void *to, const void *from, __SIZE_TYPE__ n) {
    if (to <= from) return memcpy(to, from, n);
    while (n--) ((unsigned char *)to)[n] = ((const unsigned char *)from)[n];
    return to;
}
LOCUS_BUILTIN memset(void *to, int c, __SIZE_TYPE__ n) {
    for (unsigned char *t = to; n--;) *t++ = (unsigned char)c;
    return to;
}
#undef LOCUS_BUILTIN

/* What the host answers instead of a length. After LOCUS_FAILED return at once: the call has failed. */
#define LOCUS_ABSENT (-1)
#define LOCUS_FAILED (-2)

/* Host functions. A length above the given capacity means that nothing was copied, and how much is needed. */
LOCUS_IMPORT(get)        int64_t locus_get(const void *key, uint32_t key_len, void *buf, uint32_t cap);
LOCUS_IMPORT(scan_open)  int32_t locus_scan_open(const void *start, uint32_t start_len, const void *end, uint32_t end_len);
LOCUS_IMPORT(scan_next)  int64_t locus_scan_next(int32_t scan, void *buf, uint32_t cap); /* a packed batch; 0: the end */
LOCUS_IMPORT(scan_close) void    locus_scan_close(int32_t scan);
LOCUS_IMPORT(put)        int32_t locus_put(const void *key, uint32_t key_len, const void *value, uint32_t value_len, int64_t ttl_ms);
LOCUS_IMPORT(delete)     int32_t locus_delete(const void *key, uint32_t key_len);
LOCUS_IMPORT(error)      void    locus_error(int64_t code, const char *msg, uint32_t len); /* then return */
LOCUS_IMPORT(log)        void    locus_log(const char *line, uint32_t len);
LOCUS_IMPORT(timestamp)  uint64_t locus_timestamp(void); /* milliseconds since 1970 << 16 | counter */
LOCUS_IMPORT(call_id)    void    locus_call_id(void *buf24);
LOCUS_IMPORT(key)        int64_t locus_key(void *buf, uint32_t cap);
LOCUS_IMPORT(random)     void    locus_random(void *buf, uint32_t len);

/* The result of locus_call, locus_range_encode, locus_range_result and locus_map. */
static inline uint64_t locus_bytes(const void *p, uint32_t len) {
    return (uint64_t)(uint32_t)(uintptr_t)p << 32 | len;
}

/* One record of a packed batch. */
typedef struct {
    const unsigned char *key, *value;
    uint32_t key_len, value_len;
    uint64_t timestamp; /* when it was written */
    uint64_t expires;   /* 0: never */
} locus_record;

static inline uint64_t locus_load64(const unsigned char *p) {
    uint64_t v;
    __builtin_memcpy(&v, p, 8); /* one load: wasm is little endian and loads from any address */
    return v;
}

/* Takes the record at *at, moves *at behind it, and returns 1; 0 at the end of the batch:
 *
 *     locus_record r;
 *     for (const unsigned char *p = batch; locus_next(&p, batch + len, &r);) ...
 */
static inline int locus_next(const unsigned char **at, const unsigned char *end, locus_record *r) {
    const unsigned char *p = *at;
    if (p == end) return 0;
    uint64_t head = locus_load64(p);
    r->key_len = (uint32_t)(head & 0xffff);
    r->value_len = (uint32_t)(head >> 32);
    r->timestamp = locus_load64(p + 8);
    r->expires = 0;
    p += 16;
    if (head >> 16 & 1) {
        r->expires = locus_load64(p);
        p += 8;
    }
    r->key = p;
    r->value = p + r->key_len;
    *at = r->value + r->value_len;
    return 1;
}

/* Defines the exports that every guest has. entries is a string of lines "function NAME KIND CODEC\n" with
 * KIND pure, read-only, read-write, range or map, and CODEC raw, json or proto. */
#define LOCUS_MANIFEST(entries)                                                                     \
    static const char locus_manifest_text[] = "locus 1\n" entries;                                  \
    static unsigned char locus_input[LOCUS_INPUT];                                                  \
    LOCUS_EXPORT(locus_abi_version) int32_t locus_abi_version(void) { return 1; }                   \
    LOCUS_EXPORT(locus_describe) uint64_t locus_describe(void) {                                    \
        return locus_bytes(locus_manifest_text, sizeof locus_manifest_text - 1);                    \
    }                                                                                               \
    LOCUS_EXPORT(locus_alloc) void *locus_alloc(uint32_t n) {                                       \
        return n <= sizeof locus_input ? locus_input : 0;                                           \
    }

#endif
