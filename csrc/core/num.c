/*
 * num.c - decimal text to double, correctly rounded, without a locale.
 *
 * Three roads, each exact: small integers times a small power of ten in one
 * floating-point operation (Clinger); a 64 x 128 bit product against a table
 * of powers of five (Eisel and Lemire), which knows when it cannot tell; and
 * whole integers, divided bit by bit, for what is left: more than 19 digits,
 * or a value within a hair of halfway between two doubles.
 */
#include "sgc_int.h"

/* What the text says: digits * 10^exponent, the first 19 digits kept. */
typedef struct {
    const char *digits;     /* first significant digit, the point still inside */
    const char *digits_end; /* behind the last digit */
    uint64_t mantissa;
    int64_t exponent; /* of the mantissa */
    bool negative;
    bool cut; /* digits other than 0 follow the 19 kept ones */
} decimal;

enum { KEPT_DIGITS = 19, EXPONENT_CEILING = 100000000 };

static bool is_digit(char c)
{
    return (unsigned char)(c - '0') < 10;
}

/* Digits from p on go to the mantissa while it has room; *kept counts them
 * without leading zeros. Returns the end of the digits; *over is how many of
 * them, all before the point, did not fit. */
static const char *digits_read(decimal *d, const char *p, const char *end, unsigned *kept, int64_t *over)
{
    *over = 0;
    for (; p < end && is_digit(*p); p++) {
        if (SGC_LIKELY(*kept < KEPT_DIGITS)) {
            d->mantissa = d->mantissa * 10 + (uint64_t)(*p - '0');
            *kept += d->mantissa != 0;
        } else {
            d->cut |= *p != '0';
            ++*over;
        }
    }
    return p;
}

/* [eE][+-]?digits; saturates far outside what a double can hold. NULL: malformed. */
static const char *exponent_read(decimal *d, const char *p, const char *end)
{
    bool negative = false;
    int64_t value = 0;

    if (++p < end && (*p == '+' || *p == '-'))
        negative = *p++ == '-';
    if (p == end || !is_digit(*p))
        return NULL;
    for (; p < end && is_digit(*p); p++)
        if (value < EXPONENT_CEILING)
            value = value * 10 + (*p - '0');
    d->exponent += negative ? -value : value;
    return p;
}

/* Splits the whole text into its parts; false where it is no decimal number. */
static bool decimal_read(decimal *d, const char *p, const char *end)
{
    const char *start, *point = NULL;
    unsigned kept = 0;
    int64_t over;

    *d = (decimal){.negative = false};
    if (p < end && (*p == '-' || *p == '+'))
        d->negative = *p++ == '-';
    start = d->digits = p;
    p = digits_read(d, p, end, &kept, &over);
    d->exponent = over;
    if (p < end && *p == '.') {
        point = p++;
        p = digits_read(d, p, end, &kept, &over);
        d->exponent -= (p - point - 1) - over;
    }
    d->digits_end = p;
    if (p - start - (point != NULL) == 0)
        return false;
    if (p < end && (*p | 0x20) == 'e') {
        p = exponent_read(d, p, end);
        if (!p)
            return false;
    }
    return p == end;
}

static double double_of(uint64_t mantissa, int binary_exponent, bool negative)
{
    uint64_t bits = mantissa | (uint64_t)binary_exponent << 52 | (uint64_t)negative << 63;
    double value;

    memcpy(&value, &bits, sizeof value);
    return value;
}

/* ------------------------------------------- road 1: one exact operation */

static const double tens[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                              1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

static bool clinger(const decimal *d, double *value)
{
    double m;

    if (d->cut || d->mantissa > (UINT64_C(1) << 53) || d->exponent < -22 || d->exponent > 22)
        return false;
    m = (double)d->mantissa;
    m = d->exponent < 0 ? m / tens[-d->exponent] : m * tens[d->exponent];
    *value = d->negative ? -m : m;
    return true;
}

/* --------------------------------------------- road 2: a 192-bit product */

enum { POW5_HIGHEST = 308 }; /* of what a number that is read may need */

/* The bits of mantissa * 10^exponent as a positive double, sign apart; false
 * where the product does not decide. mantissa > 0, exponent in the table. */
static bool eisel_lemire(uint64_t mantissa, int exponent, uint64_t *out_mantissa, int *out_exponent)
{
    const uint64_t *power = sgc__pow5[exponent - SGC__POW5_LOWEST];
    int lead = __builtin_clzll(mantissa), upper, binary;
    uint64_t high, low, second, bits;

    mantissa <<= lead;
    low = sgc__mul_wide(mantissa, power[0], &high);
    if ((high & 0x1ff) == 0x1ff) { /* the power's low word may carry into what counts */
        sgc__mul_wide(mantissa, power[1], &second);
        low += second;
        high += low < second;
    }
    if (low == UINT64_MAX && (exponent < -27 || exponent > 55))
        return false;

    upper = (int)(high >> 63);
    bits = high >> (upper + 9); /* 53 bits and one to round by */
    /* 217706 / 2^16 is log2(10) just below; right for every exponent of the table. */
    binary = (int)((217706 * (int64_t)exponent) >> 16) + 63 + 1 + upper - lead + 1022;
    if (binary <= 0) { /* subnormal, or nothing */
        if (binary < -62)
            bits = 0;
        else
            bits >>= 1 - binary;
        bits = (bits + (bits & 1)) >> 1;
        *out_exponent = bits >> 52 ? 1 : 0;
        *out_mantissa = bits & ((UINT64_C(1) << 52) - 1);
        return true;
    }
    /* Exactly halfway, which only small powers can be: round to even. */
    if (low <= 1 && exponent >= -4 && exponent <= 23 && (bits & 3) == 1 && bits << (upper + 9) == high)
        bits &= ~UINT64_C(1);
    bits = (bits + (bits & 1)) >> 1;
    if (bits >> 53) {
        bits >>= 1;
        binary++;
    }
    *out_exponent = binary >= 0x7ff ? 0x7ff : binary;
    *out_mantissa = binary >= 0x7ff ? 0 : bits & ((UINT64_C(1) << 52) - 1);
    return true;
}

static bool product_road(const decimal *d, double *value)
{
    uint64_t mantissa, other;
    int exponent, other_exponent;

    if (d->exponent < SGC__POW5_LOWEST || d->exponent > POW5_HIGHEST ||
        !eisel_lemire(d->mantissa, (int)d->exponent, &mantissa, &exponent))
        return false;
    /* With digits left out the truth lies between this mantissa and the next. */
    if (d->cut && (!eisel_lemire(d->mantissa + 1, (int)d->exponent, &other, &other_exponent) ||
                   other != mantissa || other_exponent != exponent))
        return false;
    *value = double_of(mantissa, exponent, d->negative);
    return true;
}

/* ------------------------------------------------ road 3: whole integers */

/* 10^1130 has 59 words; one more to shift into. */
enum { BIG_WORDS = 64, BIG_DIGITS = 800 };

typedef struct {
    int n; /* words in use, the last one not 0 */
    uint64_t word[BIG_WORDS];
} big;

static void big_mul_add(big *a, uint64_t factor, uint64_t carry)
{
    for (int i = 0; i < a->n; i++) {
        uint64_t high, low = sgc__mul_wide(a->word[i], factor, &high);
        low += carry;
        carry = high + (low < carry);
        a->word[i] = low;
    }
    if (carry)
        a->word[a->n++] = carry;
}

static void big_mul_pow10(big *a, int power)
{
    for (; power >= 19; power -= 19)
        big_mul_add(a, UINT64_C(10000000000000000000), 0);
    for (; power > 0; power--)
        big_mul_add(a, 10, 0);
}

static int big_bits(const big *a)
{
    return a->n ? a->n * 64 - __builtin_clzll(a->word[a->n - 1]) : 0;
}

static void big_shift_left(big *a, int bits)
{
    int words = bits / 64, rest = bits % 64;

    if (!a->n)
        return;
    a->word[a->n] = 0;
    for (int i = a->n; i >= 0; i--) {
        uint64_t low = i > 0 && rest ? a->word[i - 1] >> (64 - rest) : 0;
        a->word[i + words] = (i < a->n ? a->word[i] << rest : 0) | low;
    }
    memset(a->word, 0, (size_t)words * sizeof *a->word);
    a->n += words + 1;
    while (a->n && !a->word[a->n - 1])
        a->n--;
}

static int big_compare(const big *a, const big *b)
{
    if (a->n != b->n)
        return a->n < b->n ? -1 : 1;
    for (int i = a->n - 1; i >= 0; i--)
        if (a->word[i] != b->word[i])
            return a->word[i] < b->word[i] ? -1 : 1;
    return 0;
}

/* a -= b, where a >= b. */
static void big_subtract(big *a, const big *b)
{
    uint64_t borrow = 0;

    for (int i = 0; i < a->n; i++) {
        uint64_t take = i < b->n ? b->word[i] : 0;
        uint64_t left = a->word[i] - take - borrow;
        borrow = a->word[i] < take || (a->word[i] == take && borrow);
        a->word[i] = left;
    }
    while (a->n && !a->word[a->n - 1])
        a->n--;
}

/* The significant digits as an integer, at most BIG_DIGITS of them and a 1 for
 * all that follow: no double has a halfway point of more than 770 digits, so
 * what lies beyond only matters by being there. Returns how many digits of the
 * text the integer leaves out (one less where it ends in that 1). */
static int64_t big_of_digits(big *a, const decimal *d)
{
    int64_t left_out = 0;
    int taken = 0;
    bool more = false;

    a->n = 0;
    for (const char *p = d->digits; p < d->digits_end; p++) {
        if (*p == '.')
            continue;
        if (taken < BIG_DIGITS) {
            big_mul_add(a, 10, (uint64_t)(*p - '0'));
            taken += a->n != 0;
        } else {
            more |= *p != '0';
            left_out++;
        }
    }
    if (more) {
        big_mul_add(a, 10, 1);
        left_out--;
    }
    return left_out;
}

/* numerator / denominator to `bits` bits by long division, the first of which
 * is a 1, rounded to nearest even. */
static uint64_t quotient(big *numerator, big *denominator, int bits)
{
    uint64_t value = 0;
    int order;

    for (int i = 0; i < bits; i++) {
        value <<= 1;
        if (big_compare(numerator, denominator) >= 0) {
            big_subtract(numerator, denominator);
            value |= 1;
        }
        big_shift_left(numerator, 1);
    }
    order = big_compare(numerator, denominator);
    return value + (order > 0 || (order == 0 && (value & 1)));
}

/* Any decimal whose leading digit stands between 10^-326 and 10^310. */
static double divide_road(const decimal *d, int64_t exponent)
{
    big numerator, denominator = {1, {1}};
    int shift, bits = 53;
    uint64_t value;

    exponent += big_of_digits(&numerator, d);
    if (exponent >= 0)
        big_mul_pow10(&numerator, (int)exponent);
    else
        big_mul_pow10(&denominator, (int)-exponent);

    /* Scale so that 1 <= numerator / denominator < 2; the value is that * 2^shift. */
    shift = big_bits(&numerator) - big_bits(&denominator);
    if (shift > 0)
        big_shift_left(&denominator, shift);
    else
        big_shift_left(&numerator, -shift);
    if (big_compare(&numerator, &denominator) < 0) {
        big_shift_left(&numerator, 1);
        shift--;
    }
    if (shift < -1022) { /* subnormal: fewer bits, down to none */
        bits = 53 + shift + 1022;
        if (bits < 0)
            return double_of(0, 0, d->negative);
        value = quotient(&numerator, &denominator, bits);
        return double_of(value & ((UINT64_C(1) << 52) - 1), value >> 52 ? 1 : 0, d->negative);
    }
    value = quotient(&numerator, &denominator, bits);
    if (value >> 53) {
        value >>= 1;
        shift++;
    }
    if (shift > 1023)
        return double_of(0, 0x7ff, d->negative);
    return double_of(value & ((UINT64_C(1) << 52) - 1), shift + 1023, d->negative);
}

/* The exponent of the last digit in the text, and where the first significant
 * one stands, decide whether there is anything to compute. */
static double slow_road(const decimal *d)
{
    int64_t digits = 0, exponent = d->exponent;

    for (const char *p = d->digits; p < d->digits_end; p++)
        digits += *p != '.' && (digits || *p != '0');
    /* d->exponent belongs to the 19 kept digits; the others are behind them. */
    if (digits > KEPT_DIGITS)
        exponent -= digits - KEPT_DIGITS;
    if (!digits || exponent + digits < -326)
        return double_of(0, 0, d->negative);
    if (exponent + digits > 310)
        return double_of(0, 0x7ff, d->negative);
    return divide_road(d, exponent);
}

/* ----------------------------------------------------------------- words */

/* `lower` is the word in lower case; text is its length or is not it. */
static bool is_word(const char *text, size_t len, sgc_str lower)
{
    if (len != lower.len)
        return false;
    for (size_t i = 0; i < len; i++)
        if ((text[i] | 0x20) != lower.ptr[i])
            return false;
    return true;
}

static bool word_read(sgc_str text, double *value)
{
    const char *p = text.ptr;
    size_t len = text.len;
    bool negative = false;

    if (len && (*p == '+' || *p == '-')) {
        negative = *p == '-';
        p++, len--;
    }
    if (is_word(p, len, SGC__STR("inf")) || is_word(p, len, SGC__STR("infinity")))
        *value = negative ? -INFINITY : INFINITY;
    else if (is_word(p, len, SGC__STR("nan")))
        *value = NAN;
    else
        return false;
    return true;
}

/* Up to 15 digits and perhaps a point between them, which one division makes a number. */
static bool short_decimal(sgc_str text, double *value)
{
    uint64_t mantissa = 0;
    size_t point = text.len;

    if (!text.len || text.len > 15)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (is_digit(text.ptr[i]))
            mantissa = mantissa * 10 + (uint64_t)(text.ptr[i] - '0');
        else if (text.ptr[i] == '.' && point == text.len)
            point = i;
        else
            return false;
    }
    if (point == text.len)
        *value = (double)mantissa;
    else
        *value = (double)mantissa / tens[text.len - point - 1];
    return text.len > 1 || point;
}

bool sgc__number_read(sgc_str text, double *value)
{
    decimal d;

    if (SGC_LIKELY(short_decimal(text, value)))
        return true;
    if (!decimal_read(&d, text.ptr, text.ptr + text.len))
        return word_read(text, value);
    if (SGC_LIKELY(clinger(&d, value)))
        return true;
    if (!d.mantissa)
        *value = double_of(0, 0, d.negative);
    else if (!product_road(&d, value))
        *value = slow_road(&d);
    return true;
}

bool sgc__integer_read(sgc_str text, int64_t *value)
{
    const char *p = text.ptr, *end = text.ptr + text.len;
    bool negative = false;
    uint64_t magnitude = 0;

    if (p < end && (*p == '-' || *p == '+'))
        negative = *p++ == '-';
    if (p == end)
        return false;
    for (; p < end; p++) {
        uint64_t digit = (uint64_t)(*p - '0');
        if (!is_digit(*p) || magnitude > (UINT64_MAX - digit) / 10)
            return false;
        magnitude = magnitude * 10 + digit;
    }
    if (magnitude > (uint64_t)INT64_MAX + negative)
        return false;
    *value = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
    return true;
}
