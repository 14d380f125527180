/* A number is read as strtod reads it in the C locale, by all the roads that a page has to it. */
#include <errno.h>

#include "fuzz.h"

enum { NUMBER_ROOM = 4096 };

/* ---------------------------------------------------------------- grammar */

static size_t digits_skip(const char *text, size_t at)
{
    while (text[at] >= '0' && text[at] <= '9')
        at++;
    return at;
}

/* [+-] (digits [. digits] | . digits) [(e|E) [+-] digits], and nothing behind it; NUL ends the text. */
static bool is_decimal(const char *text, size_t len)
{
    size_t at = *text == '+' || *text == '-', start = at, whole, digits;

    at = digits_skip(text, at);
    whole = digits = at - start;
    if (text[at] == '.') {
        start = ++at;
        at = digits_skip(text, at);
        digits = whole + at - start;
    }
    if (digits && (text[at] == 'e' || text[at] == 'E')) {
        at++;
        at += text[at] == '+' || text[at] == '-';
        start = at;
        at = digits_skip(text, at);
        if (at == start)
            return false;
    }
    return digits && at == len;
}

/* Is it one of the words, in any case, with or without a sign? */
static bool is_word(const char *text, size_t len)
{
    static const char *const words[] = {"nan", "inf", "infinity"};
    size_t sign = *text == '+' || *text == '-';

    for (size_t i = 0; i < 3; i++) {
        size_t k = 0;
        while (words[i][k] && sign + k < len && (text[sign + k] | 0x20) == words[i][k])
            k++;
        if (!words[i][k] && sign + k == len)
            return true;
    }
    return false;
}

static bool same_number(double a, double b)
{
    return (a != a && b != b) || memcmp(&a, &b, sizeof a) == 0;
}

/* --------------------------------------------------------------- properties */

static void integer_check(const char *text, size_t len)
{
    size_t sign = *text == '+' || *text == '-', at = digits_skip(text, sign);
    int64_t got = 0;
    long long want;
    bool fits;

    errno = 0;
    want = strtoll(text, NULL, 10);
    fits = at == len && at > sign && errno == 0;
    MUST(sgc__integer_read((sgc_str){text, len}, &got) == fits);
    MUST(!fits || got == want);
}

/* On a page: behind a first line, and behind one that is the same but for a label. */
static void page_check(const char *text, size_t len, bool good, double want)
{
    char page[2 * NUMBER_ROOM + 64];
    size_t used = (size_t)snprintf(page, sizeof page, "a{x=\"1\"} %s\na{x=\"2\"} %s\nb 1.5\n", text, text);
    char *at;
    sgc_options options;
    sgc_page *parsed;
    sgc_sample s;

    if (strcspn(text, " \t\r\n#}") != len || !len)
        return; /* more than one token */
    at = fuzz_edge(FUZZ_PART, used);
    memcpy(at, page, used);
    fuzz_options(&options, FUZZ_TEXT);
    options.limits.number_length = NUMBER_ROOM;
    MUST((sgc_page_parse(at, used, &options, &parsed, NULL) == SGC_OK) == good);
    for (size_t i = 0; good && i < 2; i++) {
        sgc_page_sample(parsed, i, &s);
        MUST(same_number(s.value, want));
    }
    sgc_page_free(parsed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[NUMBER_ROOM + 1];
    const char *input = fuzz_input(data, size);
    double got = 0, want;
    bool good;

    if (size > NUMBER_ROOM || (size && memchr(data, '\0', size)))
        return 0;
    memcpy(text, input, size);
    text[size] = '\0';
    good = is_decimal(text, size) || is_word(text, size);
    want = strtod(text, NULL);
    MUST(sgc__number_read((sgc_str){input, size}, &got) == good);
    MUST(!good || same_number(got, want));
    integer_check(text, size);
    page_check(text, size, good, want);
    return 0;
}

/* ------------------------------------------------------------------ mutator */

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);

static uint64_t state;

static uint64_t next(void)
{
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state * 0x2545f4914f6cdd1du;
}

/* Any double but the special ones, with exponents near 0 more often than not. */
static double double_make(void)
{
    uint64_t exponent = next() % 4 ? 1023 + next() % 120 - 60 : next() % 2047;
    uint64_t bits =
        (next() >> 12 & (next() % 2 ? UINT64_MAX : UINT64_MAX << 32)) | exponent << 52 | next() << 63;
    double value;

    memcpy(&value, &bits, sizeof value);
    return value;
}

/* All digits of a double, or of the point halfway to the next one, where rounding is decided. */
static int exact_text(char *out, size_t room)
{
    double value = double_make();
    long double exact = value;

    if (next() % 2 && fabs(value) < 1e300)
        exact = ((long double)value + (long double)nextafter(value, INFINITY)) / 2;
    return snprintf(out, room, next() % 2 ? "%.*Le" : "%.*Lg", (int)(next() % 800), exact);
}

/* A digit becomes another, goes away, or gets company. */
static size_t digit_touch(char *text, size_t len, size_t max)
{
    size_t at = len ? next() % len : 0;

    if (next() % 3 == 0 && len + 1 < max) {
        memmove(text + at + 1, text + at, len - at);
        text[at] = "0123456789.e-+"[next() % 14];
        return len + 1;
    }
    if (len && next() % 2)
        text[at] = (char)('0' + next() % 10);
    return len;
}

/* Digits without end behind what there is. */
static size_t digits_pad(char *text, size_t len, size_t max)
{
    size_t more = next() % 40;

    for (; more && len < max; more--)
        text[len++] = (char)('0' + (next() % 4 ? 0 : next() % 10));
    return len;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    char text[NUMBER_ROOM];
    int written = 0;

    state = seed * 0x9e3779b97f4a7c15u + 1;
    switch (size ? next() % 6 : 5) {
    case 0:
        written = snprintf(text, sizeof text, "%.*g", (int)(next() % 20) + 1, double_make());
        break;
    case 1:
        written = exact_text(text, sizeof text);
        break;
    case 2:
        return digit_touch((char *)data, size, max);
    case 3:
        return digits_pad((char *)data, size, max);
    default:
        return LLVMFuzzerMutate(data, size, max);
    }
    if (written <= 0 || (size_t)written > max)
        return LLVMFuzzerMutate(data, size, max);
    memcpy(data, text, (size_t)written);
    return (size_t)written;
}
