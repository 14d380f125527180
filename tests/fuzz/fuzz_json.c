/* What is written as JSON is read back as it was, by a reader that shares nothing with the writer. */
#include <inttypes.h>

#include "fuzz.h"

/* ---------------------------------------------------------------- grammar */

static size_t digits_skip(const char *text, size_t at)
{
    while (text[at] >= '0' && text[at] <= '9')
        at++;
    return at;
}

/* [-] (0 | 1-9 digits) [. digits] [e (+|-) digits], and nothing behind it; NUL ends the text. */
static bool is_json_number(const char *text, size_t len)
{
    size_t at = *text == '-', start = at;

    at = digits_skip(text, at);
    if (at == start || (text[start] == '0' && at != start + 1))
        return false;
    if (text[at] == '.') {
        start = ++at;
        at = digits_skip(text, at);
        if (at == start)
            return false;
    }
    if (text[at] == 'e') {
        at += text[at + 1] == '+' || text[at + 1] == '-' ? 2 : 1;
        start = at;
        at = digits_skip(text, at);
        if (at == start)
            return false;
    }
    return at == len;
}

static unsigned hex_read(const char *p)
{
    unsigned value = 0;

    for (size_t i = 0; i < 4; i++) {
        const char *digits = "0123456789abcdef", *found = memchr(digits, p[i], 16);
        MUST(found);
        value = value * 16 + (unsigned)(found - digits);
    }
    return value;
}

/* The byte that the escape behind a backslash stands for; *used becomes its length. */
static char escape_read(const char *p, const char *end, size_t *used)
{
    static const char letters[] = "\"\\/bfnrt", bytes[] = "\"\\/\b\f\n\r\t";
    const char *found;
    unsigned value;

    *used = 1;
    MUST(p < end);
    found = memchr(letters, *p, sizeof letters - 1);
    if (found)
        return bytes[found - letters];
    *used = 5;
    MUST(*p == 'u' && end - p >= 5);
    value = hex_read(p + 1);
    MUST(value < 0x20);
    return (char)value;
}

/* --------------------------------------------------------------- properties */

static void text_check(const char *data, size_t size)
{
    size_t room = 6 * size + 2, len, used;
    char *out = fuzz_edge(FUZZ_PART, room);
    const char *p = out + 1, *end;

    len = sgc_json_text((sgc_str){data, size}, out);
    MUST(len >= 2 && len <= room && *out == '"' && out[len - 1] == '"');
    end = out + len - 1;
    for (size_t i = 0; i < size; i++, p += used) {
        MUST(p < end && (unsigned char)*p >= 0x20 && *p != '"');
        used = 1;
        if (*p != '\\')
            MUST(*p == data[i]);
        else
            MUST(escape_read(++p, end, &used) == data[i]);
    }
    MUST(p == end);
}

/* The digits of a number, without those zeros in front and behind that only say where the point is. */
static size_t digits_take(const char *text, char *out)
{
    size_t n = 0;

    for (; *text && *text != 'e'; text++)
        if (*text >= '0' && *text <= '9' && (*text != '0' || n))
            out[n++] = *text;
    while (n && out[n - 1] == '0')
        n--;
    out[n] = '\0';
    return n;
}

/* No decimal of fewer digits is read as the value, and none of as many is nearer. */
static void shortest_check(const char *text, double value)
{
    char got[64], want[64], tried[64];
    size_t n = digits_take(text, got);

    MUST(n >= 1 && n <= 17);
    if (n > 1) {
        snprintf(tried, sizeof tried, "%.*e", (int)n - 2, value);
        MUST(strtod(tried, NULL) != value);
    }
    snprintf(tried, sizeof tried, "%.*e", (int)n - 1, value);
    digits_take(tried, want);
    MUST(strtod(tried, NULL) != value || strcmp(got, want) == 0);
}

static void number_check(double value)
{
    char *out = fuzz_edge(FUZZ_PART, SGC_JSON_NUMBER), text[SGC_JSON_NUMBER + 1];
    size_t len;
    double back;

    if (!isfinite(value))
        return;
    len = sgc_json_number(value, out);
    MUST(len <= SGC_JSON_NUMBER);
    memcpy(text, out, len);
    text[len] = '\0';
    MUST(is_json_number(text, len));
    back = strtod(text, NULL);
    MUST(memcmp(&back, &value, sizeof back) == 0);
    if (value == 0)
        return;
    MUST((strchr(text, 'e') != NULL) == (fabs(value) < 1e-5 || fabs(value) >= 1e16));
    MUST(strchr(text, 'e') || strchr(text, '.'));
    shortest_check(text, value);
}

static void integer_check(int64_t value)
{
    char *out = fuzz_edge(FUZZ_PART, SGC_JSON_NUMBER), text[SGC_JSON_NUMBER + 1];
    int len = snprintf(text, sizeof text, "%" PRId64, value);

    MUST(sgc_json_integer(value, out) == (size_t)len && memcmp(out, text, (size_t)len) == 0);
}

/* The bytes as text; by eight as a double, as one near 1 and as an integer, and as decimals in text. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *input = fuzz_input(data, size);
    double value;
    uint64_t bits;

    if (!input || size > FUZZ_ROOM / 6 - 2)
        return 0;
    text_check(input, size);
    for (size_t at = 0; at + sizeof bits <= size; at += sizeof bits) {
        memcpy(&bits, input + at, sizeof bits);
        integer_check((int64_t)bits);
        integer_check((int64_t)(bits >> (bits & 63)));
        number_check((double)(int64_t)(bits >> (bits & 63)) / 1000);
        memcpy(&value, &bits, sizeof value);
        number_check(value);
        bits = (bits & UINT64_MAX >> 6) | UINT64_C(0x3c) << 56;
        memcpy(&value, &bits, sizeof value);
        number_check(value);
    }
    if (sgc__number_read((sgc_str){input, size}, &value))
        number_check(value);
    return 0;
}
