/*
 * transfer: moves an amount from one account of a group to another. ../go/transfer and ../rust/transfer.rs are
 * the same.
 *
 * It is called on the group, which is what the names of its accounts begin with; the argument is "FROM TO AMOUNT",
 * the result is the two balances. An account is a decimal number under its key.
 */
#include "../../../udf/guest/c/locus.h"

LOCUS_MANIFEST("function transfer read-write raw\n"
               "reads accounts/\n"
               "writes accounts/\n"
               "limit result 64\n")

enum { NOT_ENOUGH = 1, NO_ACCOUNT, NOT_A_NUMBER, TOO_MUCH };
enum { MAX_GROUP = 256, MAX_NAME = 64 };

#define BAD_ARGUMENT \
    locus_refuse(LOCUS_BAD_ARGUMENT, "the argument must be FROM TO AMOUNT, an amount of at least 1 between two accounts")

typedef struct {
    const unsigned char *p;
    uint32_t len;
} word;

/* Takes what stands before the next space, or the end. */
static word take(word *rest) {
    word w = {rest->p, 0};
    while (w.len < rest->len && w.p[w.len] != ' ') w.len++;
    uint32_t n = w.len + (w.len < rest->len);
    rest->p += n;
    rest->len -= n;
    return w;
}

static int equal(word a, word b) {
    if (a.len != b.len) return 0;
    for (uint32_t i = 0; i < a.len; i++)
        if (a.p[i] != b.p[i]) return 0;
    return 1;
}

static unsigned char group[MAX_GROUP];
static uint32_t group_len;

static int set(word name, int64_t balance) {
    static unsigned char key[MAX_GROUP + MAX_NAME];
    static char value[LOCUS_DIGITS];
    memcpy(key, group, group_len);
    memcpy(key + group_len, name.p, name.len);
    return locus_put(key, group_len + name.len, value, locus_digits(value, balance), 0);
}

LOCUS_EXPORT(locus_call)
uint64_t locus_call(uint32_t function, const unsigned char *arg, uint32_t len) {
    static unsigned char keys[2 * (4 + MAX_GROUP + MAX_NAME)], values[256];
    static char out[2 * LOCUS_DIGITS + 1];
    word rest = {arg, len}, from = take(&rest), to = take(&rest);
    int64_t amount, balance[2];
    (void)function;
    if (!locus_integer(rest.p, rest.len, &amount) || amount < 1 || from.len == 0 || to.len == 0 || from.len > MAX_NAME ||
        to.len > MAX_NAME || equal(from, to))
        return BAD_ARGUMENT;

    int64_t n = locus_key(group, sizeof group);
    if (n > (int64_t)sizeof group) return locus_refuse(0, "the group's name is too long");
    group_len = (uint32_t)n;
    unsigned char *end = locus_pack_key(keys, group, group_len, from.p, from.len);
    end = locus_pack_key(end, group, group_len, to.p, to.len);
    n = locus_get_many(keys, (uint32_t)(end - keys), values, sizeof values);
    if (n < 0) return 0;
    if (n > (int64_t)sizeof values) return locus_refuse(NOT_A_NUMBER, "an account does not hold a decimal number");
    const unsigned char *at = values;
    for (int i = 0; i < 2; i++) {
        uint32_t digits;
        const unsigned char *value = locus_next_value(&at, &digits);
        if (!value) return locus_refuse(NO_ACCOUNT, "there is no such account");
        if (!locus_integer(value, digits, &balance[i]))
            return locus_refuse(NOT_A_NUMBER, "an account does not hold a decimal number");
    }
    if (balance[0] < amount) return locus_refuse(NOT_ENOUGH, "there is not enough in the account");
    balance[0] -= amount;
    if (__builtin_add_overflow(balance[1], amount, &balance[1])) return locus_refuse(TOO_MUCH, "the account can't hold that much");

    if (set(from, balance[0]) < 0 || set(to, balance[1]) < 0) return 0;
    uint32_t size = locus_digits(out, balance[0]);
    out[size++] = ' ';
    return locus_bytes(out, size + locus_digits(out + size, balance[1]));
}
