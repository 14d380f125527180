/*
 * json.c - numbers and text as JSON has them, for who writes much of it.
 *
 * A number is the shortest decimal that is read back as the same double, found
 * by Schubfach (Giulietti, "The Schubfach way to render doubles", 2020): of the
 * decimals of the right length in the interval that rounds to the double, scaled
 * by a power of ten with 128 bits, there is one or the nearer of two.
 */
#include "sgc_int.h"

/* ----------------------------------------------------------------- shortest */

typedef struct decimal {
    uint64_t digits;
    int exponent; /* of ten */
} decimal;

static int floor_log10_pow2(int e) /* of 2^e */
{
    return (e * 1262611) >> 22;
}

static int floor_log10_three_quarters_pow2(int e) /* of 3/4 * 2^e */
{
    return (e * 1262611 - 524031) >> 22;
}

static int floor_log2_pow10(int e)
{
    return (e * 1741647) >> 19;
}

/* floor(scale * value / 2^128), whose last bit is 1 too where bits were cut off. */
static uint64_t scaled(const uint64_t scale[2], uint64_t value)
{
    uint64_t cut, high, low;

    sgc__mul_wide(scale[1], value, &cut);
    low = sgc__mul_wide(scale[0], value, &high);
    low += cut;
    high += low < cut;
    return high | (low > 1);
}

/* The shortest decimal of c * 2^q; `closer`: the double below is half as far as the one above. */
static decimal shortest(uint64_t c, int q, bool closer)
{
    bool even = (c & 1) == 0;
    int k = closer ? floor_log10_three_quarters_pow2(q) : floor_log10_pow2(q);
    int h = q + floor_log2_pow10(-k) + 1;
    uint64_t scale[2];

    sgc__pow10_above(-k, scale);
    uint64_t below = scaled(scale, (4 * c - 2 + closer) << h);
    uint64_t at = scaled(scale, (4 * c) << h);
    uint64_t above = scaled(scale, (4 * c + 2) << h);
    uint64_t lowest = below + !even, highest = above - !even;
    uint64_t s = at / 4;
    if (s >= 10) { /* one digit less, where one such decimal lies inside */
        uint64_t tens = s / 10;
        bool down = lowest <= 40 * tens, up = 40 * tens + 40 <= highest;
        if (down != up)
            return (decimal){tens + up, k + 1};
    }
    bool down = lowest <= 4 * s, up = 4 * s + 4 <= highest;
    if (down != up)
        return (decimal){s + up, k};
    uint64_t middle = 4 * s + 2;
    return (decimal){s + (at > middle || (at == middle && (s & 1))), k};
}

static decimal decimal_of(double value)
{
    uint64_t bits, fraction;
    int exponent;

    memcpy(&bits, &value, sizeof bits);
    fraction = bits & ((UINT64_C(1) << 52) - 1);
    exponent = (int)(bits >> 52 & 0x7ff);
    if (!exponent)
        return shortest(fraction, -1074, false);
    return shortest(fraction | UINT64_C(1) << 52, exponent - 1075, !fraction && exponent > 1);
}

/* -------------------------------------------------------------- its layout */

static size_t put_digits(char *out, uint64_t digits)
{
    char text[20];
    size_t at = sizeof text;

    for (; digits >= 10; digits /= 100) { /* by two, the last first */
        text[--at] = (char)('0' + digits % 10);
        text[--at] = (char)('0' + digits / 10 % 10);
    }
    if (digits || at == sizeof text)
        text[--at] = (char)('0' + digits);
    memcpy(out, text + at, sizeof text - at);
    return sizeof text - at;
}

static size_t put_zeros(char *out, int n)
{
    for (int i = 0; i < n; i++)
        out[i] = '0';
    return n > 0 ? (size_t)n : 0;
}

/* d.ddde+NN */
static size_t put_scientific(char *out, const char *digits, size_t n, int exponent)
{
    size_t len = 0;

    out[len++] = digits[0];
    if (n > 1) {
        out[len++] = '.';
        memcpy(out + len, digits + 1, n - 1);
        len += n - 1;
    }
    out[len++] = 'e';
    out[len++] = exponent < 0 ? '-' : '+';
    return len + put_digits(out + len, (uint64_t)(exponent < 0 ? -exponent : exponent));
}

/* Digits with the point behind the first `point` of them, which may be before or past all. */
static size_t put_plain(char *out, const char *digits, size_t n, int point)
{
    size_t len = 0, whole = point > 0 ? ((size_t)point < n ? (size_t)point : n) : 0;

    if (!whole)
        out[len++] = '0';
    memcpy(out + len, digits, whole);
    len += whole;
    len += put_zeros(out + len, point - (int)n);
    out[len++] = '.';
    if (whole == n) {
        out[len++] = '0';
        return len;
    }
    len += put_zeros(out + len, -point);
    memcpy(out + len, digits + whole, n - whole);
    return len + (n - whole);
}

/* Whole numbers below 2^53 are their own shortest decimals; most that servers write are
 * such. Returns 0 where it is none. */
static size_t put_whole(char *out, double value)
{
    const double most = 9007199254740992.0; /* 2^53 */
    uint64_t whole = value < most ? (uint64_t)value : 0;
    size_t len;

    if ((double)whole != value)
        return 0;
    len = put_digits(out, whole);
    out[len++] = '.';
    out[len++] = '0';
    return len;
}

size_t sgc_json_number(double value, char *out)
{
    char digits[20];
    size_t len = 0, n;
    int point;
    decimal found;

    if (signbit(value))
        out[len++] = '-';
    value = fabs(value);
    n = put_whole(out + len, value);
    if (n)
        return len + n;
    found = decimal_of(value);
    while (found.digits && found.digits % 10 == 0) {
        found.digits /= 10;
        found.exponent++;
    }
    n = put_digits(digits, found.digits);
    point = (int)n + found.exponent;
    if (point <= -5 || point > 16)
        return len + put_scientific(out + len, digits, n, point - 1);
    return len + put_plain(out + len, digits, n, point);
}

size_t sgc_json_integer(int64_t value, char *out)
{
    size_t len = 0;

    if (value < 0)
        out[len++] = '-';
    return len + put_digits(out + len, value < 0 ? ~(uint64_t)value + 1 : (uint64_t)value);
}

/* --------------------------------------------------------------------- text */

static size_t put_escape(char *out, unsigned char byte)
{
    static const char hex[] = "0123456789abcdef", named[] = "b\bf\fn\nr\rt\t\"\"\\\\";

    for (size_t i = 0; i < sizeof named - 1; i += 2)
        if ((unsigned char)named[i + 1] == byte) {
            out[0] = '\\', out[1] = named[i];
            return 2;
        }
    out[0] = '\\', out[1] = 'u', out[2] = out[3] = '0';
    out[4] = hex[byte >> 4], out[5] = hex[byte & 15];
    return 6;
}

static bool is_escaped(unsigned char byte)
{
    return byte < 0x20 || byte == '"' || byte == '\\';
}

#define EACH(byte) (UINT64_MAX / 255 * (byte))

/* Is one of eight bytes at least below `limit`, which is at most 128? */
static bool any_below(uint64_t bytes, unsigned limit)
{
    return (bytes - EACH(limit)) & ~bytes & EACH(0x80);
}

static bool any_is_escaped(uint64_t bytes)
{
    return any_below(bytes, 0x20) || any_below(bytes ^ EACH('"'), 1) || any_below(bytes ^ EACH('\\'), 1);
}

/* Eight bytes at a time as far as they stay as they are; returns how many. */
static size_t put_as_it_is(char *out, const char *text, size_t len)
{
    size_t done = 0;
    uint64_t bytes;

    for (; len - done >= sizeof bytes; done += sizeof bytes) {
        memcpy(&bytes, text + done, sizeof bytes);
        if (any_is_escaped(bytes))
            break;
        memcpy(out + done, &bytes, sizeof bytes);
    }
    return done;
}

size_t sgc_json_text(sgc_str text, char *out)
{
    size_t i = 0, len = 1;

    out[0] = '"';
    while (i < text.len) {
        size_t same = put_as_it_is(out + len, text.ptr + i, text.len - i);
        i += same;
        len += same;
        for (size_t n = 0; n < sizeof(uint64_t) && i < text.len; n++, i++) {
            unsigned char byte = (unsigned char)text.ptr[i];
            if (is_escaped(byte))
                len += put_escape(out + len, byte);
            else
                out[len++] = (char)byte;
        }
    }
    out[len++] = '"';
    return len;
}
