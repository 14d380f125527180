/*
 * sgc_int.h - what the core's own files share: memory, buffers, errors,
 * checked arithmetic and small text helpers. Nothing outside csrc/core sees it.
 */
#ifndef SGC_INT_H
#define SGC_INT_H

#include <math.h>
#include <string.h>

#include "sgc.h"

#if defined(__GNUC__)
#define SGC_LIKELY(x) __builtin_expect(!!(x), 1)
#define SGC_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define SGC_NOINLINE __attribute__((noinline, cold))
#define SGC_APART __attribute__((noinline)) /* so that the short way through its caller stays short */
#else
#define SGC_LIKELY(x) (x)
#define SGC_UNLIKELY(x) (x)
#define SGC_NOINLINE
#define SGC_APART
#endif

/* ---------------------------------------------------------------- memory */

/* Through the allocator seam. Sizes are products of checked counts: a product
 * that overflows gives NULL like an exhausted heap. */
void *sgc__alloc(size_t count, size_t size); /* zeroed */
void *sgc__resize(void *ptr, size_t count, size_t size);
void sgc__release(void *ptr);

/* An arena hands out memory that is freed all at once. */
typedef struct sgc__chunk sgc__chunk;
typedef struct sgc__arena {
    sgc__chunk *chunk;
    size_t used;
    size_t room;
} sgc__arena;

void sgc__arena_init(sgc__arena *arena);
void *sgc__arena_alloc(sgc__arena *arena, size_t count, size_t size); /* aligned for any type, not zeroed */
/* A copy of the bytes, NUL-terminated beside its length; ptr NULL: no memory. */
sgc_str sgc__arena_copy(sgc__arena *arena, sgc_str text);
void sgc__arena_free(sgc__arena *arena);
void sgc__arena_reset(sgc__arena *arena); /* frees all but the latest chunk, which is used again */

/* A growing buffer with a ceiling. Reaching it is SGC_LIMIT, never a cut; a
 * failed append leaves the buffer empty and its memory freed. */
typedef struct sgc__buf {
    char *ptr;
    size_t len;
    size_t room;
    size_t ceiling;
} sgc__buf;

void sgc__buf_init(sgc__buf *buf, size_t ceiling);
sgc_status sgc__buf_append(sgc__buf *buf, const void *data, size_t len);
/* Makes room for `more` bytes behind len, which the caller then writes and adds to len. */
sgc_status sgc__buf_reserve(sgc__buf *buf, size_t more);
void sgc__buf_reset(sgc__buf *buf); /* empties, keeps the memory */
void sgc__buf_free(sgc__buf *buf);

/* --------------------------------------------------------- checked sizes */

static inline bool sgc__mul_size(size_t a, size_t b, size_t *out)
{
    if (b && a > SIZE_MAX / b)
        return false;
    *out = a * b;
    return true;
}

/* The 128-bit product of two words: returns the low half. */
static inline uint64_t sgc__mul_wide(uint64_t a, uint64_t b, uint64_t *high)
{
    __extension__ typedef unsigned __int128 wide;
    wide product = (wide)a * b;

    *high = (uint64_t)(product >> 64);
    return (uint64_t)product;
}

/* Grows a capacity by half and at least to `need`; 0 where that overflows. */
static inline size_t sgc__grow(size_t room, size_t need)
{
    size_t more = room > SIZE_MAX / 2 ? 0 : room + room / 2;
    return more > need ? more : need;
}

/* ---------------------------------------------------------------- errors */

/* Each fills *err where it is not NULL, and returns the status it is about. */
sgc_status sgc__fail(sgc_error *err, sgc_status code);
sgc_status sgc__fail_memory(sgc_error *err);
sgc_status sgc__fail_argument(sgc_error *err, const char *reason, sgc_str excerpt);
sgc_status sgc__fail_limit(sgc_error *err, const char *limit, uint64_t allowed);
/* The offending byte is `at`; line and column are counted from `data`. */
sgc_status sgc__fail_syntax(sgc_error *err, const char *reason, const char *data, size_t len, const char *at);
/* A limit of the page that was passed at `at`. */
sgc_status sgc__fail_limit_at(sgc_error *err, const char *limit, uint64_t allowed, const char *data,
                              size_t len, const char *at);

/* Writes `text` as printable ASCII, other bytes as \xNN, cut to size - 1. */
void sgc__escape(char *out, size_t size, sgc_str text);

/* ------------------------------------------------------------------ text */

#define SGC__STR(literal) ((sgc_str){(literal), sizeof(literal) - 1})

static inline bool sgc__eq(sgc_str a, sgc_str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* The same for texts that mostly have few bytes: no call for 16 or less. */
static inline bool sgc__short_eq(sgc_str a, sgc_str b)
{
    uint64_t x = 0, y = 0;

    if (a.len != b.len || a.len > 16)
        return sgc__eq(a, b);
    if (a.len >= 8) { /* the two words may overlap */
        memcpy(&x, a.ptr, 8);
        memcpy(&y, b.ptr, 8);
        if (x != y)
            return false;
        memcpy(&x, a.ptr + a.len - 8, 8);
        memcpy(&y, b.ptr + a.len - 8, 8);
        return x == y;
    }
    for (size_t i = 0; i < a.len; i++)
        if (a.ptr[i] != b.ptr[i])
            return false;
    return true;
}

static inline bool sgc__starts(sgc_str text, sgc_str with)
{
    return text.len >= with.len && (with.len == 0 || memcmp(text.ptr, with.ptr, with.len) == 0);
}

static inline bool sgc__ends(sgc_str text, sgc_str with)
{
    return text.len >= with.len &&
           (with.len == 0 || memcmp(text.ptr + text.len - with.len, with.ptr, with.len) == 0);
}

/* Hash of bytes under the process's random seed, so that nobody can prepare a
 * page whose names collide. */
uint64_t sgc__hash(const void *data, size_t len);

/* ------------------------------------------------------- tables and order */

typedef struct sgc__index_slot {
    uint32_t hash;
    uint32_t place; /* position + 1; 0: the slot is free */
} sgc__index_slot;

/* An open addressing table from keys to positions in an array of its owner's,
 * which tells it the key at a position. All zero is an empty one. */
typedef struct sgc__index {
    sgc__index_slot *slots;
    size_t n_slots;
    size_t n;
    unsigned shift; /* the upper bits of a hash tell where its search begins: it is shifted so far */
} sgc__index;

typedef sgc_str (*sgc__key_at)(const void *owner, size_t position);

static inline uint32_t sgc__index_hash(sgc_str key)
{
    return (uint32_t)(sgc__hash(key.ptr, key.len) >> 32);
}

/* The position of the key, or SIZE_MAX; *hash is its hash. */
size_t sgc__index_find(const sgc__index *index, sgc_str key, uint32_t *hash, sgc__key_at key_at,
                       const void *owner);
/* Files position `index->n`, whose key has that hash and is no other position's;
 * false: no memory. */
bool sgc__index_add(sgc__index *index, uint32_t hash);
/* Begins to load what a search for the key will look at first. */
static inline void sgc__index_expect(const sgc__index *index, sgc_str key)
{
#if defined(__GNUC__)
    __builtin_prefetch(&index->slots[sgc__index_hash(key) >> index->shift], 1);
#endif
}
void sgc__index_clear(sgc__index *index); /* empties, keeps the memory */
void sgc__index_free(sgc__index *index);

/* Sorts n elements of at most 16 bytes each, in place and without recursion, in
 * n log n whatever their order (qsort allocates, and may take n * n). */
void sgc__sort(void *base, size_t n, size_t size, bool (*less)(const void *a, const void *b));

/* ------------------------------------------------------------- histogram */

/* Why these are no cumulative buckets, or NULL. */
const char *sgc__hist_fault(const double *bounds, const double *counts, size_t n);

/* out = a + sign * b over common bounds; `out` has room for the fewer of the
 * two's buckets, or is one of them. */
void sgc__hist_merge(sgc_hist *out, const sgc_hist *a, const sgc_hist *b, double sign);

/* ---------------------------------------------------------------- number */

/* Reads the whole of `text` as a decimal number of the exposition grammar:
 * correctly rounded, no locale, no hex, no underscore; 1e400 is +Inf. Words:
 * NaN, Inf, Infinity in any case with an optional sign. False where it is none. */
bool sgc__number_read(sgc_str text, double *value);

/* The same for a signed integer that fits 64 bits. */
bool sgc__integer_read(sgc_str text, int64_t *value);

/* The 128 leading bits of 5^q, high word first, from q = SGC__POW5_LOWEST to 324:
 * rounded up from -27 to -1, else down. */
enum { SGC__POW5_LOWEST = -342 };
extern const uint64_t sgc__pow5[][2];

/* The 128 leading bits of 10^exponent, likewise, rounded up. */
void sgc__pow10_above(int exponent, uint64_t bits[2]);

#endif
