/*
 * delays: flights by origin, in C: how many, the sum of their delays, and the 95th percentile by nearest rank, exactly. Two range
 * functions that differ in how a flight is stored; neither looks at its argument:
 *
 *     delays        {"date":"2001-01-01T00:01","delay":33,...}, a JSON object with a whole number under "delay"
 *     delays-fixed  the delay in 4 bytes, little endian, and whatever follows
 *
 * The origin is the key up to its first slash. The result is [{"origin":"ATL","flights":2,"sum":40,"p95":35}], in no order;
 * ../../flights/guest answers the same question in Go.
 *
 * It is quick because it counts delays in an array per origin, takes the origin of the record before for granted until a key begins with
 * another one, and finds the delay where it stands in an ordinary record, with five loads.
 */
#include "../../../udf/guest/c/locus.h"

LOCUS_MANIFEST("function delays range json\n"
               "function delays-fixed range json\n")

enum { JSON_VALUES, FIXED_VALUES };

/* Delays from FIRST on have a counter each; of the few others there is a list. */
enum { FIRST = -128, COUNTERS = 1024, MAX_DELAY = 1 << 20, MAX_ORIGINS = 1024, MAX_NAME = 15, MAX_RARE = 16384, BUCKETS = 4096 };

typedef struct {
    uint8_t len;
    unsigned char name[MAX_NAME];
    uint32_t *counts; /* COUNTERS of them */
} origin;

typedef struct {
    int32_t delay;
    uint32_t origin, flights;
} rare;

static origin *origins; /* MAX_ORIGINS; made at the first run, as are all arrays, so that an idle instance is small */
static rare *rares;
static uint16_t *buckets; /* number of the origin + 1, by hash */
static uint32_t origin_count, rare_count, values;
static origin *last;      /* of the record before */
static uint32_t last_word; /* its name and a slash, if it has three letters */

/* Memory is never given back: what is here once is used again by the next run. */
static unsigned char *heap_at;
static uint32_t heap_left;

static void *take(uint32_t n) {
    n = (n + 7) & ~7u;
    if (n > heap_left) {
        uint32_t pages = n / 65536 + 1;
        __SIZE_TYPE__ at = __builtin_wasm_memory_grow(0, pages);
        if (at == (__SIZE_TYPE__)-1) return 0;
        heap_at = (unsigned char *)(at << 16);
        heap_left = pages << 16;
    }
    void *p = heap_at;
    heap_at += n;
    heap_left -= n;
    return p;
}

static int failed; /* an error was told: nothing counts any more */

static void *refuse(const char *msg) {
    if (!failed) locus_refuse(1, msg);
    failed = 1;
    return 0;
}

LOCUS_EXPORT(locus_range_init)
void locus_range_init(uint32_t function, const unsigned char *arg, uint32_t len) {
    (void)arg, (void)len;
    values = function;
    failed = 0;
    if (!origins) {
        origins = take(MAX_ORIGINS * sizeof *origins);
        buckets = take(BUCKETS * sizeof *buckets);
        rares = take(MAX_RARE * sizeof *rares);
        if (!origins || !buckets || !rares) {
            origins = 0;
            refuse("there is not enough memory");
            return;
        }
        memset(origins, 0, MAX_ORIGINS * sizeof *origins);
    }
    for (uint32_t i = 0; i < origin_count; i++) memset(origins[i].counts, 0, COUNTERS * sizeof(uint32_t));
    memset(buckets, 0, BUCKETS * sizeof *buckets);
    origin_count = rare_count = 0;
    last = 0;
    last_word = 0;
}

static int named(const origin *o, const unsigned char *name, uint32_t len) {
    if (o->len != len) return 0;
    for (uint32_t i = 0; i < len; i++)
        if (o->name[i] != name[i]) return 0;
    return 1;
}

/* The origin of a name, made if need be; 0 after an error. */
static origin *find(const unsigned char *name, uint32_t len) {
    uint32_t h = 2166136261u;
    if (len == 0 || len > MAX_NAME) return refuse("an origin has between 1 and 15 bytes");
    for (uint32_t i = 0; i < len; i++) h = (h ^ name[i]) * 16777619u;
    for (h %= BUCKETS; buckets[h]; h = (h + 1) % BUCKETS)
        if (named(&origins[buckets[h] - 1], name, len)) return &origins[buckets[h] - 1];
    if (origin_count == MAX_ORIGINS) return refuse("there are more than 1024 origins");
    origin *o = &origins[origin_count];
    if (!o->counts) {
        o->counts = take(COUNTERS * sizeof(uint32_t));
        if (!o->counts) return refuse("there is not enough memory for so many origins");
        memset(o->counts, 0, COUNTERS * sizeof(uint32_t));
    }
    o->len = (uint8_t)len;
    memcpy(o->name, name, len);
    buckets[h] = (uint16_t)++origin_count;
    return o;
}

static void count(origin *o, int32_t delay, uint32_t flights) {
    uint32_t i = (uint32_t)(delay - FIRST), at = (uint32_t)(o - origins);
    if (i < COUNTERS) {
        o->counts[i] += flights;
        return;
    }
    for (i = 0; i < rare_count; i++)
        if (rares[i].origin == at && rares[i].delay == delay) {
            rares[i].flights += flights;
            return;
        }
    if (rare_count == MAX_RARE) {
        refuse("there are more than 16384 delays beyond 15 hours");
        return;
    }
    rares[rare_count++] = (rare){delay, at, flights};
}

static origin *origin_of(const unsigned char *key, uint32_t len) {
    uint32_t n = 0;
    while (n < len && key[n] != '/') n++;
    if (n == len) return refuse("a key has no origin before a slash");
    last = find(key, n);
    last_word = last && n == 3 ? (uint32_t)(key[0] | key[1] << 8 | key[2] << 16 | '/' << 24) : 0;
    return last;
}

static inline uint32_t load32(const unsigned char *p) {
    uint32_t v;
    __builtin_memcpy(&v, p, 4);
    return v;
}

/* Reads a whole number at *p; 0 if there is none, or if it is too large. */
static inline int number(const unsigned char *p, const unsigned char *end, int32_t *v) {
    int negative = p < end && *p == '-';
    int32_t n = 0;
    p += negative;
    const unsigned char *digits = p;
    for (; p < end && (unsigned)(*p - '0') < 10; p++)
        if ((n = n * 10 + (*p - '0')) > MAX_DELAY) return 0;
    *v = negative ? -n : n;
    if (p == digits) return 0;
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r')) p++;
    return p < end && (*p == ',' || *p == '}');
}

/* Any object: its first "delay" at the top level. */
static int search(const unsigned char *p, const unsigned char *end, int32_t *v) {
    for (int depth = 0; p < end; p++) {
        if (*p == '{' || *p == '[') depth++;
        if (*p == '}' || *p == ']') depth--;
        if (*p != '"') continue;
        const unsigned char *name = p++;
        for (; p < end && *p != '"'; p++) p += *p == '\\';
        if (p >= end) return 0;
        if (depth != 1 || p - name != 6 || load32(name + 1) != 0x616c6564 || name[5] != 'y') continue;
        const unsigned char *q = p + 1;
        while (q < end && (*q == ' ' || *q == '\t' || *q == '\n' || *q == '\r')) q++;
        if (q == end || *q != ':') continue;
        for (q++; q < end && (*q == ' ' || *q == '\t' || *q == '\n' || *q == '\r'); q++) {
        }
        return number(q, end, v);
    }
    return 0;
}

/* Where things stand in {"date":"2001-01-01T00:01","delay":33,...}: if the separators stand where they do, no JSON object has
 * anything else there (../../flights/delays/scan.go has the same words). */
static inline int ordinary(const unsigned char *v) {
    return ((locus_load64(v) ^ 0x3a2265746164227bull)                            /* {"date": */
            | ((locus_load64(v + 8) & 0x0000ff00000000ffull) ^ 0x00002d0000000022ull) /* "????-?? */
            | ((locus_load64(v + 16) & 0x00ff0000ff0000ffull) ^ 0x003a00005400002dull) /* -??T??:? */
            | (locus_load64(v + 27) ^ 0x3a2279616c656422ull)                       /* "delay": */
            | (uint64_t)(v[25] ^ '"') | (uint64_t)(v[26] ^ ',')) == 0;
}

enum { DELAY_AT = 35 };

/* Reads a number of one to five digits that a comma follows, with a '-' or without, from the eight bytes there; 0 if it is another one. No
 * loop: eight digits are summed up at once (Lemire, "Quickly parsing eight digits"). */
static inline int short_number(const unsigned char *p, int32_t *v) {
    uint64_t negative = *p == '-', word = locus_load64(p + negative);
    uint64_t t = word ^ 0x3030303030303030ull; /* digits become 0 to 9; the first byte that is none gets its high bit below */
    uint64_t others = (((t + 0x7676767676767676ull) | t) & 0x8080808080808080ull) | 1ull << 63;
    uint64_t digits = (uint64_t)__builtin_ctzll(others) >> 3;
    if (digits - 1 > 4 || (word >> digits * 8 & 0xff) != ',') return 0;
    t <<= 64 - digits * 8;
    t = t * 10 + (t >> 8);
    t = ((t & 0x000000ff000000ffull) * 0x000f424000000064ull + (t >> 16 & 0x000000ff000000ffull) * 0x0000271000000001ull) >> 32;
    *v = negative ? -(int32_t)t : (int32_t)t;
    return 1;
}

static void add_json(const unsigned char *batch, const unsigned char *end) {
    locus_record r;
    for (const unsigned char *p = batch; locus_next(&p, end, &r);) {
        const unsigned char *v = r.value, *v_end = v + r.value_len;
        int32_t delay;
        origin *o = last;
        if (r.key_len < 4 || load32(r.key) != last_word || !last_word) o = origin_of(r.key, r.key_len);
        if (!o) return;
        int quick = r.value_len >= DELAY_AT + 1 + 8 && ordinary(v) && short_number(v + DELAY_AT, &delay);
        if (!quick && !search(v, v_end, &delay)) {
            refuse("a value has no delay in whole minutes");
            return;
        }
        uint32_t i = (uint32_t)(delay - FIRST);
        if (i < COUNTERS)
            o->counts[i]++;
        else
            count(o, delay, 1);
    }
}

static void add_fixed(const unsigned char *batch, const unsigned char *end) {
    locus_record r;
    for (const unsigned char *p = batch; locus_next(&p, end, &r);) {
        origin *o = last;
        if (r.key_len < 4 || load32(r.key) != last_word || !last_word) o = origin_of(r.key, r.key_len);
        if (!o) return;
        if (r.value_len < 4) {
            refuse("a value is shorter than 4 bytes");
            return;
        }
        int32_t delay = (int32_t)load32(r.value);
        uint32_t i = (uint32_t)(delay - FIRST);
        if (i < COUNTERS)
            o->counts[i]++;
        else
            count(o, delay, 1);
    }
}

LOCUS_EXPORT(locus_range_add)
void locus_range_add(const unsigned char *batch, uint32_t len) {
    if (failed) return;
    if (values == JSON_VALUES)
        add_json(batch, batch + len);
    else
        add_fixed(batch, batch + len);
}

/* The output grows at the end of memory, and is made anew each time. */
static unsigned char *out;
static uint32_t out_len, out_cap;

static int room(uint32_t n) {
    if (out_cap - out_len >= n) return 1;
    uint32_t cap = (out_len + n) * 2;
    unsigned char *more = take(cap);
    if (!more) {
        refuse("there is not enough memory for the output");
        return 0;
    }
    memcpy(more, out, out_len);
    out = more;
    out_cap = cap;
    return 1;
}

/*
 * An accumulator is, per origin: a byte with the length of its name, the name, how many delays follow in 2 bytes, and of each the number
 * of its counter in 2 bytes and the flights in 4. The few delays without a counter have RARE there, and the delay in 4 bytes in between.
 */
enum { RARE = 0xffff };

static void put(uint32_t v, uint32_t bytes) {
    for (; bytes--; v >>= 8) out[out_len++] = (unsigned char)v;
}

static uint32_t get(const unsigned char **p, uint32_t bytes) {
    uint32_t v = 0;
    for (uint32_t i = 0; i < bytes; i++) v |= (uint32_t)(*p)[i] << 8 * i;
    *p += bytes;
    return v;
}

static void put_delays(const origin *o) {
    uint32_t delays = 0;
    if (!room(1 + MAX_NAME + 2)) return;
    out[out_len++] = o->len;
    memcpy(out + out_len, o->name, o->len);
    uint32_t at = out_len += o->len;
    out_len += 2;
    for (uint32_t i = 0; i < COUNTERS; i++) {
        if (!o->counts[i]) continue;
        if (!room(6)) return;
        put(i, 2);
        put(o->counts[i], 4);
        delays++;
    }
    for (uint32_t i = 0; i < rare_count; i++) {
        if (&origins[rares[i].origin] != o) continue;
        if (!room(10)) return;
        put(RARE, 2);
        put((uint32_t)rares[i].delay, 4);
        put(rares[i].flights, 4);
        delays++;
    }
    if (delays >= RARE) {
        refuse("an origin has too many different delays");
        return;
    }
    out[at] = (unsigned char)delays;
    out[at + 1] = (unsigned char)(delays >> 8);
}

LOCUS_EXPORT(locus_range_encode)
uint64_t locus_range_encode(void) {
    out_len = 0;
    for (uint32_t i = 0; i < origin_count && !failed; i++) put_delays(&origins[i]);
    return locus_bytes(out, out_len);
}

/* Accumulators are what locus_range_encode has made: the host hands over nothing else. */
LOCUS_EXPORT(locus_range_merge)
void locus_range_merge(const unsigned char *encoded, uint32_t len) {
    const unsigned char *p = encoded, *end = encoded + len;
    while (p < end && !failed) {
        uint32_t name_len = *p++;
        origin *o = find(p, name_len);
        if (!o) break;
        p += name_len;
        for (uint32_t n = get(&p, 2); n > 0; n--) {
            uint32_t i = get(&p, 2);
            int32_t delay = i == RARE ? (int32_t)get(&p, 4) : (int32_t)i + FIRST;
            count(o, delay, get(&p, 4));
        }
    }
    last = 0;
    last_word = 0;
}

static void put_text(const char *s) {
    uint32_t n = locus_length(s);
    if (!room(n)) return;
    memcpy(out + out_len, s, n);
    out_len += n;
}

static void put_digits(int64_t v) {
    if (room(LOCUS_DIGITS)) out_len += locus_digits((char *)out + out_len, v);
}

/* The delay that at least rank flights do not exceed, looking at those below and above the counters too. */
static int32_t ranked(const origin *o, uint64_t rank) {
    int32_t below = -MAX_DELAY - 1;
    for (uint64_t seen = 0;;) { /* one delay after another, upwards */
        int32_t next = MAX_DELAY + 1;
        uint64_t flights = 0;
        for (uint32_t i = 0; i < rare_count; i++)
            if (&origins[rares[i].origin] == o && rares[i].delay > below && rares[i].delay < next)
                next = rares[i].delay, flights = rares[i].flights;
        for (int32_t d = below < FIRST ? 0 : below - FIRST + 1; d < COUNTERS && d + FIRST < next; d++)
            if (o->counts[d]) next = d + FIRST, flights = o->counts[d];
        if (next > MAX_DELAY) return below;
        if ((seen += flights) >= rank) return next;
        below = next;
    }
}

static void put_origin(const origin *o) {
    uint64_t flights = 0;
    int64_t sum = 0;
    for (int32_t d = 0; d < COUNTERS; d++) {
        flights += o->counts[d];
        sum += (int64_t)o->counts[d] * (d + FIRST);
    }
    for (uint32_t i = 0; i < rare_count; i++)
        if (&origins[rares[i].origin] == o) {
            flights += rares[i].flights;
            sum += (int64_t)rares[i].flights * rares[i].delay;
        }
    put_text(out_len > 1 ? ",{\"origin\":\"" : "{\"origin\":\"");
    for (uint32_t i = 0; i < o->len; i++) {
        if (o->name[i] < ' ' || o->name[i] > '~' || o->name[i] == '"' || o->name[i] == '\\') refuse("an origin is not plain text");
        if (room(1)) out[out_len++] = o->name[i];
    }
    put_text("\",\"flights\":");
    put_digits((int64_t)flights);
    put_text(",\"sum\":");
    put_digits(sum);
    put_text(",\"p95\":");
    put_digits(ranked(o, (flights * 95 + 99) / 100));
    put_text("}");
}

LOCUS_EXPORT(locus_range_result)
uint64_t locus_range_result(void) {
    out_len = 0;
    put_text("[");
    for (uint32_t i = 0; i < origin_count && !failed; i++) put_origin(&origins[i]);
    put_text("]");
    return locus_bytes(out, out_len);
}
