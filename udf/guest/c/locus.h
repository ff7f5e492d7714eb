/*
 * locus.h: functions for Locus in C, without a C library. Version 1 of the ABI (docs/abi.md).
 *
 * A guest includes this header in one file, declares its functions with LOCUS_MANIFEST, and defines
 * locus_call, or the five entries of range functions (examples/guests/c/fieldsum.c), or the two of map
 * functions (locus_range_init, locus_map: docs/abi.md). A whole
 * guest, which squares a number:
 *
 *     #include "locus.h"
 *     LOCUS_MANIFEST("function square pure json\n")
 *
 *     LOCUS_EXPORT(locus_call)
 *     uint64_t locus_call(uint32_t function, const unsigned char *arg, uint32_t len) {
 *         static char out[LOCUS_DIGITS];
 *         int64_t x;
 *         if (!locus_json_integer(arg, len, &x)) return locus_refuse(LOCUS_BAD_ARGUMENT, "a whole number is needed");
 *         return locus_bytes(out, locus_digits(out, (int64_t)((uint64_t)x * (uint64_t)x)));
 *     }
 *
 * Build and register it:
 *
 *     clang --target=wasm32 -O2 -mbulk-memory -nostdlib -Wl,--no-entry -Wl,--stack-first -Wl,-z,stack-size=16384 \
 *         -Wl,--strip-all -I udf/guest/c -o square.wasm square.c
 *     locus fn register square square.wasm
 *
 * (clang and lld; -I is the folder of this file.) A module with several functions is registered once for each,
 * under its name in the manifest. A module without functions of a kind leaves out that kind's entries.
 *
 * function is the line of the manifest, from 0. Arguments and batches are valid until the entry returns;
 * what locus_bytes names must stay as it is until the next entry. Globals outlive a call, and an instance
 * serves many: keep nothing in them from one call to the next. The stack of that command has 16 KiB: large
 * buffers are static.
 */
#ifndef LOCUS_H
#define LOCUS_H

#include <stdint.h>

/* The buffer for the host grows to what the host asks for, in memory of its own. With LOCUS_INPUT defined before
 * the include it is a static one of that many bytes, and what is longer is refused. A batch is 64 KiB and one
 * record more, and a record at most 4 KiB + 512 KiB. */
#ifdef LOCUS_INPUT
#define LOCUS_FIRST_INPUT LOCUS_INPUT
#else
#define LOCUS_FIRST_INPUT 4096
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
/* keys: of each its length in 4 bytes and itself (locus_pack_key), 1,024 at most; values: the same, 0xffffffff for a
 * key that does not exist (locus_next_value) */
LOCUS_IMPORT(get_many)   int64_t locus_get_many(const void *keys, uint32_t keys_len, void *buf, uint32_t cap);
LOCUS_IMPORT(scan_open)  int32_t locus_scan_open(const void *start, uint32_t start_len, const void *end, uint32_t end_len);
LOCUS_IMPORT(scan_next)  int64_t locus_scan_next(int32_t scan, void *buf, uint32_t cap); /* a packed batch; 0: the end */
LOCUS_IMPORT(scan_close) void    locus_scan_close(int32_t scan);
LOCUS_IMPORT(put)        int32_t locus_put(const void *key, uint32_t key_len, const void *value, uint32_t value_len, int64_t ttl_ms);
LOCUS_IMPORT(delete)     int32_t locus_delete(const void *key, uint32_t key_len);
LOCUS_IMPORT(emit)       int32_t locus_emit(const void *output, uint32_t len); /* in locus_map */
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

/* The code of an argument that can't be read; a function's own codes are above 0. */
#define LOCUS_BAD_ARGUMENT (-2)

static inline uint32_t locus_length(const char *s) {
    uint32_t n = 0;
    while (s[n]) n++;
    return n;
}

/* return locus_refuse(1, "no"); ends an entry with an error. */
static inline uint64_t locus_refuse(int64_t code, const char *msg) {
    locus_error(code, msg, locus_length(msg));
    return 0;
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

/* Appends a key of two parts to the keys of a get_many, and returns where the next one goes. */
static inline unsigned char *locus_pack_key(unsigned char *at, const void *a, uint32_t a_len, const void *b, uint32_t b_len) {
    uint32_t n = a_len + b_len;
    __builtin_memcpy(at, &n, 4);
    memcpy(at + 4, a, a_len);
    memcpy(at + 4 + a_len, b, b_len);
    return at + 4 + n;
}

/* Takes the value at *at of a get_many's answer, and moves *at behind it; 0 if the key does not exist. */
static inline const unsigned char *locus_next_value(const unsigned char **at, uint32_t *len) {
    const unsigned char *value = *at + 4;
    __builtin_memcpy(len, *at, 4);
    if (*len == 0xffffffffu) {
        *len = 0;
        *at = value;
        return 0;
    }
    *at = value + *len;
    return value;
}

/* Reads decimal digits, with a '-' or without, and nothing else; 0 if they are no 64-bit number. */
static inline int locus_integer(const unsigned char *s, uint32_t len, int64_t *v) {
    uint32_t i = len > 0 && s[0] == '-';
    int negative = (int)i;
    if (i == len) return 0;
    int64_t sum = 0; /* below 0, where there is room for one more */
    for (; i < len; i++) {
        if (s[i] < '0' || s[i] > '9' || sum < INT64_MIN / 10 || __builtin_sub_overflow(sum * 10, (int64_t)(s[i] - '0'), &sum)) return 0;
    }
    return negative ? (*v = sum, 1) : !__builtin_sub_overflow((int64_t)0, sum, v);
}

/* Reads a JSON number without a fraction; null, and no bytes at all, are 0. */
static inline int locus_json_integer(const unsigned char *s, uint32_t len, int64_t *v) {
#define LOCUS_SPACE(c) ((c) == ' ' || (c) == '\t' || (c) == '\n' || (c) == '\r')
    *v = 0;
    if (len == 0) return 1;
    while (len && LOCUS_SPACE(*s)) s++, len--;
    while (len && LOCUS_SPACE(s[len - 1])) len--;
#undef LOCUS_SPACE
    if (len == 4 && s[0] == 'n' && s[1] == 'u' && s[2] == 'l' && s[3] == 'l') return 1;
    if (len > 1 && s[0] == '0') return 0; /* a leading zero */
    if (len > 2 && s[0] == '-' && s[1] == '0') return 0;
    return locus_integer(s, len, v);
}

/* Writes a number in decimal digits, LOCUS_DIGITS at most, and returns how many. */
#define LOCUS_DIGITS 20
static inline uint32_t locus_digits(char *to, int64_t v) {
    char digits[LOCUS_DIGITS];
    uint32_t n = 0, len = 0;
    uint64_t u = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    if (v < 0) to[len++] = '-';
    do digits[n++] = (char)('0' + u % 10);
    while (u /= 10);
    while (n) to[len++] = digits[--n];
    return len;
}

/* The buffer for the host: at first a small one, then memory of its own at the end. */
static unsigned char locus_first_input[LOCUS_FIRST_INPUT];
static unsigned char *locus_input = locus_first_input;
static uint32_t locus_input_len = LOCUS_FIRST_INPUT;

static inline void *locus_input_of(uint32_t n) {
#ifdef LOCUS_INPUT
    return n <= locus_input_len ? locus_input : 0;
#else
    if (n > locus_input_len) {
        uint32_t end = (uint32_t)(uintptr_t)locus_input + locus_input_len;
        int is_last = end == __builtin_wasm_memory_size(0) << 16;
        uint32_t pages = (n - (is_last ? locus_input_len : 0) - 1) / 65536 + 1;
        __SIZE_TYPE__ at = __builtin_wasm_memory_grow(0, pages);
        if (at == (__SIZE_TYPE__)-1) return 0;
        if (!is_last) locus_input = (unsigned char *)(at << 16), locus_input_len = 0;
        locus_input_len += pages << 16;
    }
    return locus_input;
#endif
}

/* Defines the exports that every guest has. entries is a string of lines "function NAME KIND CODEC\n" with
 * KIND pure, read-only, read-write, range or map, and CODEC raw, json or proto; the lines of a function's
 * capabilities, "reads accounts/\n" and others, follow its own. */
#define LOCUS_MANIFEST(entries)                                                                     \
    static const char locus_manifest_text[] = "locus 1\n" entries;                                  \
    LOCUS_EXPORT(locus_abi_version) int32_t locus_abi_version(void) { return 1; }                   \
    LOCUS_EXPORT(locus_describe) uint64_t locus_describe(void) {                                    \
        return locus_bytes(locus_manifest_text, sizeof locus_manifest_text - 1);                    \
    }                                                                                               \
    LOCUS_EXPORT(locus_alloc) void *locus_alloc(uint32_t n) { return locus_input_of(n); }

#endif
