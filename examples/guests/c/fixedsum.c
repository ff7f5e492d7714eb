/*
 * fixedsum: a range function over records of a fixed binary layout. ../go/fixedsum and ../rust/fixedsum.rs are the
 * same.
 *
 * The argument is where a field stands in each value: an offset in bytes. The field is a 64-bit number, little
 * endian; the result counts the records and sums the fields, modulo 2^64: {"count":3,"sum":42}. The offset is in a
 * global, which is right because locus_range_init sets it anew for each run.
 */
#include "../../../udf/guest/c/locus.h"

LOCUS_MANIFEST("function fixedsum range json\n")

static uint32_t offset;
static struct {
    uint64_t count, sum;
} acc;

LOCUS_EXPORT(locus_range_init)
void locus_range_init(uint32_t function, const unsigned char *arg, uint32_t len) {
    int64_t v;
    (void)function;
    acc.count = acc.sum = 0;
    if (!locus_json_integer(arg, len, &v) || v < 0 || v > 524280) {
        locus_refuse(LOCUS_BAD_ARGUMENT, "the argument must be the offset of a field: a whole number from 0 to 524280");
        return;
    }
    offset = (uint32_t)v;
}

LOCUS_EXPORT(locus_range_add)
void locus_range_add(const unsigned char *batch, uint32_t len) {
    uint64_t count = 0, sum = 0;
    locus_record r;
    for (const unsigned char *p = batch; locus_next(&p, batch + len, &r);) {
        if (r.value_len < offset + 8) {
            locus_refuse(1, "a value ends before the field does");
            return;
        }
        sum += locus_load64(r.value + offset);
        count++;
    }
    acc.count += count;
    acc.sum += sum;
}

LOCUS_EXPORT(locus_range_encode)
uint64_t locus_range_encode(void) { return locus_bytes(&acc, sizeof acc); }

LOCUS_EXPORT(locus_range_merge)
void locus_range_merge(const unsigned char *encoded, uint32_t len) {
    if (len != sizeof acc) {
        locus_refuse(0, "an accumulator is not 16 bytes long");
        return;
    }
    acc.count += locus_load64(encoded);
    acc.sum += locus_load64(encoded + 8);
}

static uint32_t append(char *to, const char *from) {
    uint32_t n = locus_length(from);
    memcpy(to, from, n);
    return n;
}

LOCUS_EXPORT(locus_range_result)
uint64_t locus_range_result(void) {
    static char out[64];
    uint32_t n = append(out, "{\"count\":");
    n += locus_digits(out + n, (int64_t)acc.count);
    n += append(out + n, ",\"sum\":");
    n += locus_digits(out + n, (int64_t)acc.sum);
    n += append(out + n, "}");
    return locus_bytes(out, n);
}
