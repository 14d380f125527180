/*
 * simd.h - sixteen bytes at a time, with what every CPU of its kind has: SSE2
 * on x86-64, NEON on AArch64, and plain words elsewhere or where
 * SGC_PORTABLE asks for them. All three give the same answers; none reads
 * outside the bytes it is given.
 */
#ifndef SGC_SIMD_H
#define SGC_SIMD_H

#include "sgc_int.h"

#if !defined(SGC_PORTABLE) && defined(__SSE2__)
#include <emmintrin.h>
#define SGC__SSE2 1
#elif !defined(SGC_PORTABLE) && defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
#define SGC__NEON 1
#endif

/* Index of the lowest byte that is not zero, in memory order. */
static inline size_t sgc__byte_index(uint64_t word)
{
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return (size_t)__builtin_clzll(word) >> 3;
#else
    return (size_t)__builtin_ctzll(word) >> 3;
#endif
}

#if defined(SGC__NEON)
/* Four bits a byte of a comparison's result, in memory order. */
static inline uint64_t sgc__neon_mask(uint8x16_t equal)
{
    return vget_lane_u64(vreinterpret_u64_u8(vshrn_n_u16(vreinterpretq_u16_u8(equal), 4)), 0);
}
#endif

/* How many bytes from a and b on are equal, at most n. */
static inline size_t sgc__common_prefix(const char *a, const char *b, size_t n)
{
    size_t i = 0;

#if defined(SGC__SSE2)
    for (; i + 16 <= n; i += 16) {
        __m128i x = _mm_loadu_si128((const __m128i *)(a + i)), y = _mm_loadu_si128((const __m128i *)(b + i));
        unsigned differ = 0xffffu ^ (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(x, y));
        if (differ)
            return i + (size_t)__builtin_ctz(differ);
    }
#elif defined(SGC__NEON)
    for (; i + 16 <= n; i += 16) {
        uint8x16_t x = vld1q_u8((const uint8_t *)a + i), y = vld1q_u8((const uint8_t *)b + i);
        uint64_t differ = ~sgc__neon_mask(vceqq_u8(x, y));
        if (differ)
            return i + ((size_t)__builtin_ctzll(differ) >> 2);
    }
#endif
    for (; i + 8 <= n; i += 8) {
        uint64_t x, y;
        memcpy(&x, a + i, 8);
        memcpy(&y, b + i, 8);
        if (x != y)
            return i + sgc__byte_index(x ^ y);
    }
    while (i < n && a[i] == b[i])
        i++;
    return i;
}

/* The first byte from p on that ends plain text inside quotes: a quote, a
 * backslash, a newline or a byte beyond ASCII; `end` where there is none. */
static inline const char *sgc__plain_end(const char *p, const char *end)
{
#if defined(SGC__SSE2)
    for (; end - p >= 16; p += 16) {
        __m128i x = _mm_loadu_si128((const __m128i *)p);
        __m128i stop = _mm_or_si128(
            _mm_or_si128(_mm_cmpeq_epi8(x, _mm_set1_epi8('"')), _mm_cmpeq_epi8(x, _mm_set1_epi8('\\'))),
            _mm_or_si128(_mm_cmpeq_epi8(x, _mm_set1_epi8('\n')), x));
        unsigned found = (unsigned)_mm_movemask_epi8(stop);
        if (found)
            return p + __builtin_ctz(found);
    }
#elif defined(SGC__NEON)
    for (; end - p >= 16; p += 16) {
        uint8x16_t x = vld1q_u8((const uint8_t *)p);
        uint8x16_t stop = vorrq_u8(vorrq_u8(vceqq_u8(x, vdupq_n_u8('"')), vceqq_u8(x, vdupq_n_u8('\\'))),
                                   vorrq_u8(vceqq_u8(x, vdupq_n_u8('\n')), vcgeq_u8(x, vdupq_n_u8(0x80))));
        uint64_t found = sgc__neon_mask(stop);
        if (found)
            return p + (__builtin_ctzll(found) >> 2);
    }
#endif
    while (p < end && *p != '"' && *p != '\\' && *p != '\n' && (unsigned char)*p < 0x80)
        p++;
    return p;
}

static inline bool sgc__is_name_byte(char c)
{
    return (unsigned char)((c | 0x20) - 'a') < 26 || (unsigned char)(c - '0') <= ':' - '0' || c == '_';
}

/* The first byte from p on that no metric name has ([a-zA-Z0-9_:]), or `end`. */
static inline const char *sgc__name_end(const char *p, const char *end)
{
#if defined(SGC__SSE2)
    for (; end - p >= 16; p += 16) {
        __m128i x = _mm_loadu_si128((const __m128i *)p);
        /* moved so that the range that is asked for lies at the lowest signed numbers */
        __m128i letter =
            _mm_add_epi8(_mm_or_si128(x, _mm_set1_epi8(0x20)), _mm_set1_epi8((char)(-128 - 'a')));
        __m128i digit = _mm_add_epi8(x, _mm_set1_epi8((char)(-128 - '0')));
        __m128i in = _mm_or_si128(_mm_cmpeq_epi8(x, _mm_set1_epi8('_')),
                                  _mm_or_si128(_mm_cmplt_epi8(letter, _mm_set1_epi8(-128 + 26)),
                                               _mm_cmplt_epi8(digit, _mm_set1_epi8(-128 + 11))));
        unsigned out = 0xffffu ^ (unsigned)_mm_movemask_epi8(in);
        if (out)
            return p + __builtin_ctz(out);
    }
#elif defined(SGC__NEON)
    for (; end - p >= 16; p += 16) {
        uint8x16_t x = vld1q_u8((const uint8_t *)p);
        uint8x16_t letter = vsubq_u8(vorrq_u8(x, vdupq_n_u8(0x20)), vdupq_n_u8('a'));
        uint8x16_t digit = vsubq_u8(x, vdupq_n_u8('0'));
        uint8x16_t in = vorrq_u8(vceqq_u8(x, vdupq_n_u8('_')),
                                 vorrq_u8(vcltq_u8(letter, vdupq_n_u8(26)), vcltq_u8(digit, vdupq_n_u8(11))));
        uint64_t out = ~sgc__neon_mask(in);
        if (out)
            return p + (__builtin_ctzll(out) >> 2);
    }
#endif
    while (p < end && sgc__is_name_byte(*p))
        p++;
    return p;
}

/* The first byte from p on that is a newline or not ASCII, or `end`. */
static inline const char *sgc__ascii_line_end(const char *p, const char *end)
{
#if defined(SGC__SSE2)
    for (; end - p >= 16; p += 16) {
        __m128i x = _mm_loadu_si128((const __m128i *)p);
        unsigned found = (unsigned)_mm_movemask_epi8(_mm_or_si128(x, _mm_cmpeq_epi8(x, _mm_set1_epi8('\n'))));
        if (found)
            return p + __builtin_ctz(found);
    }
#elif defined(SGC__NEON)
    for (; end - p >= 16; p += 16) {
        uint8x16_t x = vld1q_u8((const uint8_t *)p);
        uint64_t found =
            sgc__neon_mask(vorrq_u8(vceqq_u8(x, vdupq_n_u8('\n')), vcgeq_u8(x, vdupq_n_u8(0x80))));
        if (found)
            return p + (__builtin_ctzll(found) >> 2);
    }
#endif
    while (p < end && *p != '\n' && (unsigned char)*p < 0x80)
        p++;
    return p;
}

/* The first byte from p on that is not ASCII, or `end`. */
static inline const char *sgc__ascii_end(const char *p, const char *end)
{
#if defined(SGC__SSE2)
    for (; end - p >= 16; p += 16) {
        unsigned found = (unsigned)_mm_movemask_epi8(_mm_loadu_si128((const __m128i *)p));
        if (found)
            return p + __builtin_ctz(found);
    }
#elif defined(SGC__NEON)
    for (; end - p >= 16; p += 16) {
        uint64_t found = sgc__neon_mask(vcgeq_u8(vld1q_u8((const uint8_t *)p), vdupq_n_u8(0x80)));
        if (found)
            return p + (__builtin_ctzll(found) >> 2);
    }
#endif
    for (; end - p >= 8; p += 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        if (word & UINT64_C(0x8080808080808080))
            break;
    }
    while (p < end && (unsigned char)*p < 0x80)
        p++;
    return p;
}

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
/* "13.0\n", a whole number of 1 to 7 digits as SGLang writes it, in a few steps
 * without a loop. Needs 10 readable bytes; 0: it is something else. */
static inline size_t sgc__whole_value(const char *p, double *value)
{
    uint64_t word, digits, other;
    unsigned n;

    memcpy(&word, p, 8);
    digits = word ^ UINT64_C(0x3030303030303030);
    other = ((digits + UINT64_C(0x7676767676767676)) | digits) & UINT64_C(0x8080808080808080);
    if (!other)
        return 0;
    n = (unsigned)__builtin_ctzll(other) >> 3;
    if (!n || p[n] != '.' || p[n + 1] != '0' || p[n + 2] != '\n')
        return 0;
    digits <<= 64 - 8 * n; /* the digits last, zeros before them; then pairs, fours, all */
    digits = (digits * 10 + (digits >> 8)) & UINT64_C(0x00ff00ff00ff00ff);
    digits = (digits * 100 + (digits >> 16)) & UINT64_C(0x0000ffff0000ffff);
    *value = (double)(uint32_t)(digits * 10000 + (digits >> 32));
    return n + 3;
}
#endif

/* A short decimal that ends its line. Returns the next line; NULL: it is
 * something else, or too near the end of the page. */
static inline const char *sgc__short_value(const char *p, const char *end, double *value)
{
    static const double tens[] = {1e0, 1e1, 1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                  1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};
    const char *start = p, *point;
    uint64_t mantissa = 0;

    if (end - p < 18)
        return NULL;
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    size_t whole = sgc__whole_value(p, value);
    if (whole)
        return p + whole;
#endif
    for (; p < start + 16 && (unsigned char)(*p - '0') < 10; p++)
        mantissa = mantissa * 10 + (unsigned char)(*p - '0');
    point = p;
    if (*p == '.')
        for (p++; p < start + 16 && (unsigned char)(*p - '0') < 10; p++)
            mantissa = mantissa * 10 + (unsigned char)(*p - '0');
    /* With a point at most 15 digits, below 2^53 like the power of ten: one division,
       rounded once. Without one the conversion is what rounds. */
    if (*p != '\n' || point == start)
        return NULL;
    *value = (double)mantissa / tens[p > point ? p - point - 1 : 0];
    return p + 1;
}

#endif
