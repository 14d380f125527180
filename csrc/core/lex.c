/*
 * lex.c - scanners over the bytes of an exposition: names, quoted strings,
 * escapes, UTF-8. Each takes a position and an end, returns the position behind
 * what it scanned, and reads no byte at or past the end.
 */
#include "parse.h"
#include "simd.h"

enum { LABEL_NAME = 1, NAME_START = 2, LABEL_START = 4, TOKEN_END = 8 };

#define LETTER (LABEL_NAME | NAME_START | LABEL_START)
#define DIGIT LABEL_NAME

static const uint8_t classes[256] = {
    ['\t'] = TOKEN_END, ['\r'] = TOKEN_END, [' '] = TOKEN_END, ['\n'] = TOKEN_END, ['#'] = TOKEN_END,
    ['}'] = TOKEN_END,  [':'] = NAME_START, ['_'] = LETTER,    ['0'] = DIGIT,      ['1'] = DIGIT,
    ['2'] = DIGIT,      ['3'] = DIGIT,      ['4'] = DIGIT,     ['5'] = DIGIT,      ['6'] = DIGIT,
    ['7'] = DIGIT,      ['8'] = DIGIT,      ['9'] = DIGIT,     ['a'] = LETTER,     ['b'] = LETTER,
    ['c'] = LETTER,     ['d'] = LETTER,     ['e'] = LETTER,    ['f'] = LETTER,     ['g'] = LETTER,
    ['h'] = LETTER,     ['i'] = LETTER,     ['j'] = LETTER,    ['k'] = LETTER,     ['l'] = LETTER,
    ['m'] = LETTER,     ['n'] = LETTER,     ['o'] = LETTER,    ['p'] = LETTER,     ['q'] = LETTER,
    ['r'] = LETTER,     ['s'] = LETTER,     ['t'] = LETTER,    ['u'] = LETTER,     ['v'] = LETTER,
    ['w'] = LETTER,     ['x'] = LETTER,     ['y'] = LETTER,    ['z'] = LETTER,     ['A'] = LETTER,
    ['B'] = LETTER,     ['C'] = LETTER,     ['D'] = LETTER,    ['E'] = LETTER,     ['F'] = LETTER,
    ['G'] = LETTER,     ['H'] = LETTER,     ['I'] = LETTER,    ['J'] = LETTER,     ['K'] = LETTER,
    ['L'] = LETTER,     ['M'] = LETTER,     ['N'] = LETTER,    ['O'] = LETTER,     ['P'] = LETTER,
    ['Q'] = LETTER,     ['R'] = LETTER,     ['S'] = LETTER,    ['T'] = LETTER,     ['U'] = LETTER,
    ['V'] = LETTER,     ['W'] = LETTER,     ['X'] = LETTER,    ['Y'] = LETTER,     ['Z'] = LETTER,
};

static bool is(char c, unsigned class)
{
    return classes[(unsigned char)c] & class;
}

const char *sgc__scan_blanks(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t'))
        p++;
    return p;
}

const char *sgc__scan_name(const char *p, const char *end)
{
    return p < end && is(*p, NAME_START) ? sgc__name_end(p + 1, end) : p;
}

const char *sgc__scan_label_name(const char *p, const char *end)
{
    if (p < end && is(*p, LABEL_START))
        do
            p++;
        while (p < end && is(*p, LABEL_NAME));
    return p;
}

const char *sgc__scan_token(const char *p, const char *end)
{
    while (p < end && !is(*p, TOKEN_END))
        p++;
    return p;
}

/* ----------------------------------------------------------------- UTF-8 */

/* Length of the well-formed sequence at p, which starts with a byte >= 0x80;
 * 0 where there is none: overlong, a surrogate, past U+10FFFF, or cut. */
static int utf8_length(const char *p, const char *end)
{
    const unsigned char *s = (const unsigned char *)p;
    ptrdiff_t room = end - p;
    unsigned char low = 0x80, high = 0xbf;
    int length;

    if (s[0] < 0xc2 || s[0] > 0xf4)
        return 0;
    length = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    if (room < length)
        return 0;
    if (s[0] == 0xe0)
        low = 0xa0;
    else if (s[0] == 0xed)
        high = 0x9f;
    else if (s[0] == 0xf0)
        low = 0x90;
    else if (s[0] == 0xf4)
        high = 0x8f;
    if (s[1] < low || s[1] > high)
        return 0;
    for (int i = 2; i < length; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    return length;
}

const char *sgc__utf8_fault(const char *p, const char *end)
{
    while ((p = sgc__ascii_end(p, end)) < end) {
        int length = utf8_length(p, end);
        if (!length)
            return p;
        p += length;
    }
    return NULL;
}

/* --------------------------------------------------------------- strings */

static const char *fault_set(sgc__fault *fault, const char *at, const char *reason)
{
    *fault = (sgc__fault){at, reason};
    return NULL;
}

const char *sgc__scan_quoted(const char *p, const char *end, bool *escaped, sgc__fault *fault)
{
    *escaped = false;
    for (;;) {
        p = sgc__plain_end(p, end);
        if (p == end)
            return fault_set(fault, p, "page ends inside quotes");
        if (*p == '"')
            return p;
        if (*p == '\n')
            return fault_set(fault, p, "line ends inside quotes");
        if (*p == '\\') {
            *escaped = true;
            /* The byte behind is taken with it, unless it cannot be. */
            if (++p < end && *p != '\n' && (unsigned char)*p < 0x80)
                p++;
        } else {
            int length = utf8_length(p, end);
            if (!length)
                return fault_set(fault, p, "invalid UTF-8");
            p += length;
        }
    }
}

const char *sgc__scan_text(const char *p, const char *end, sgc__fault *fault)
{
    const char *plain = sgc__ascii_line_end(p, end), *newline, *stop, *bad;

    if (plain == end || *plain == '\n')
        return plain;
    newline = memchr(plain, '\n', (size_t)(end - plain));
    stop = newline ? newline : end;
    bad = sgc__utf8_fault(plain, stop);
    return bad ? fault_set(fault, bad, "invalid UTF-8") : stop;
}

static const char *blanks_skip(const char *p, const char *end, bool blanks)
{
    return blanks ? sgc__scan_blanks(p, end) : p;
}

const char *sgc__scan_label(const char *p, const char *end, bool blanks, sgc_label *label, bool *odd,
                            sgc__fault *fault)
{
    const char *start = p, *stop;
    bool escaped = false;

    if (p < end && *p == '"') {
        start = p + 1;
        stop = sgc__scan_quoted(start, end, &escaped, fault);
        if (!stop)
            return NULL;
        *odd |= escaped;
        p = stop + 1;
    } else {
        p = stop = sgc__scan_label_name(p, end);
        if (stop == start)
            return fault_set(fault, p, "expected a label name");
    }
    label->name = (sgc_str){start, (size_t)(stop - start)};

    p = blanks_skip(p, end, blanks);
    if (p == end || *p != '=')
        return fault_set(fault, p, "expected = after a label name");
    p = blanks_skip(p + 1, end, blanks);
    if (p == end || *p != '"')
        return fault_set(fault, p, "expected a quoted label value");
    start = p + 1;
    stop = sgc__scan_quoted(start, end, &label->escaped, fault);
    if (!stop)
        return NULL;
    label->value = (sgc_str){start, (size_t)(stop - start)};
    return stop + 1;
}

/* --------------------------------------------------------------- escapes */

static size_t unescape(sgc_str raw, bool quotes, char *out)
{
    size_t used = 0;

    for (size_t i = 0; i < raw.len; i++) {
        char c = raw.ptr[i], next = i + 1 < raw.len ? raw.ptr[i + 1] : '\0';
        if (c == '\\' && (next == '\\' || next == 'n' || (quotes && next == '"'))) {
            c = next == 'n' ? '\n' : next;
            i++;
        }
        out[used++] = c;
    }
    return used;
}

size_t sgc_unescape(sgc_str raw, char *out)
{
    return unescape(raw, true, out);
}

size_t sgc_unescape_help(sgc_str raw, bool quotes, char *out)
{
    return unescape(raw, quotes, out);
}
