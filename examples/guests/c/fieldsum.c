/*
 * fieldsum: a range function in C. Its argument is a JSON string, the name of a field; its result counts
 * the records whose value is a JSON object with a whole number in that field (at its top level), and sums
 * the numbers:
 *
 *     "delay"  ->  {"count":100000,"sum":831642}
 *
 * The accumulator is the two numbers, 8 bytes each, little endian. The argument is in a global, which is
 * right because locus_range_init sets it anew for each run.
 */
#include "../../../udf/guest/c/locus.h"

LOCUS_MANIFEST("function fieldsum range json\n")

static struct {
    int64_t count, sum;
} acc;

static unsigned char field[256]; /* the name with its quotes */
static uint32_t field_len;

static void refuse(const char *msg, uint32_t len) { locus_error(1, msg, len); }
#define REFUSE(msg) refuse(msg, sizeof msg - 1)

LOCUS_EXPORT(locus_range_init)
void locus_range_init(uint32_t function, const unsigned char *arg, uint32_t len) {
    (void)function;
    acc.count = acc.sum = 0;
    field_len = 0;
    if (len < 2 || len > sizeof field || arg[0] != '"' || arg[len - 1] != '"') {
        REFUSE("the argument must be a JSON string: the name of a field");
        return;
    }
    for (uint32_t i = 0; i < len; i++) field[i] = arg[i];
    field_len = len;
}

/* Skips a string: p is at its opening quote; the result is behind its closing one, or end. */
static const unsigned char *skip_string(const unsigned char *p, const unsigned char *end) {
    for (p++; p < end; p++) {
        if (*p == '\\')
            p++;
        else if (*p == '"')
            return p + 1;
    }
    return end;
}

static int is_field(const unsigned char *p, const unsigned char *end) {
    if ((uint32_t)(end - p) != field_len) return 0;
    for (uint32_t i = 0; i < field_len; i++)
        if (p[i] != field[i]) return 0;
    return 1;
}

static const unsigned char *skip_space(const unsigned char *p, const unsigned char *end) {
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r')) p++;
    return p;
}

/* Adds the whole number at p; anything else is not counted. */
static void add_number(const unsigned char *p, const unsigned char *end) {
    int negative = p < end && *p == '-';
    if (negative) p++;
    int64_t v = 0;
    const unsigned char *digits = p;
    for (; p < end && *p >= '0' && *p <= '9' && p - digits < 18; p++) v = v * 10 + (*p - '0');
    if (p == digits || p == end) return;
    p = skip_space(p, end);
    if (p == end || (*p != ',' && *p != '}')) return;
    acc.count++;
    acc.sum += negative ? -v : v;
}

static void add_value(const unsigned char *p, const unsigned char *end) {
    int depth = 0;
    while (p < end) {
        switch (*p) {
        case '{':
        case '[':
            depth++;
            break;
        case '}':
        case ']':
            depth--;
            break;
        case '"': {
            const unsigned char *after = skip_string(p, end);
            const unsigned char *colon = skip_space(after, end);
            if (depth == 1 && colon < end && *colon == ':' && is_field(p, after)) {
                add_number(skip_space(colon + 1, end), end);
                return;
            }
            p = after;
            continue;
        }
        }
        p++;
    }
}

LOCUS_EXPORT(locus_range_add)
void locus_range_add(const unsigned char *batch, uint32_t len) {
    locus_record r;
    for (const unsigned char *p = batch; locus_next(&p, batch + len, &r);) add_value(r.value, r.value + r.value_len);
}

LOCUS_EXPORT(locus_range_encode)
uint64_t locus_range_encode(void) { return locus_bytes(&acc, sizeof acc); }

LOCUS_EXPORT(locus_range_merge)
void locus_range_merge(const unsigned char *encoded, uint32_t len) {
    if (len != sizeof acc) {
        REFUSE("an accumulator is not 16 bytes long");
        return;
    }
    acc.count += (int64_t)locus_load64(encoded);
    acc.sum += (int64_t)locus_load64(encoded + 8);
}

static char result[64];

static char *text(char *to, const char *from) {
    while (*from) *to++ = *from++;
    return to;
}

static char *decimal(char *to, int64_t v) {
    char digits[20];
    int n = 0;
    uint64_t u = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    if (v < 0) *to++ = '-';
    do {
        digits[n++] = (char)('0' + u % 10);
        u /= 10;
    } while (u);
    while (n) *to++ = digits[--n];
    return to;
}

LOCUS_EXPORT(locus_range_result)
uint64_t locus_range_result(void) {
    char *p = decimal(text(result, "{\"count\":"), acc.count);
    p = text(decimal(text(p, ",\"sum\":"), acc.sum), "}");
    return locus_bytes(result, (uint32_t)(p - result));
}
