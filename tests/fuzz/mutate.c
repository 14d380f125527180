/*
 * mutate.c - changes of pages that know what a line, a label and a value are.
 * Half of the time libFuzzer's own changes of bytes are made instead. Shared by
 * all targets whose input is a page.
 */
#include "fuzz.h"

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);

static uint64_t state;

static size_t pick(size_t n)
{
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (size_t)(state * 0x2545f4914f6cdd1du >> 16) % n;
}

/* A page being changed: it has room for `max` bytes. */
typedef struct {
    char *data;
    size_t len;
    size_t max;
} page;

typedef struct {
    size_t at;
    size_t len; /* its newline included, where it has one */
} span;

/* Puts `text` in the place of part of the page; too long a page stays as it is. */
static void replace(page *p, span part, const char *text, size_t len)
{
    size_t behind = p->len - part.at - part.len;

    if (p->len - part.len + len > p->max)
        return;
    memmove(p->data + part.at + len, p->data + part.at + part.len, behind);
    if (len)
        memcpy(p->data + part.at, text, len);
    p->len = p->len - part.len + len;
}

/* ------------------------------------------------------------------ places */

static span line_at(const page *p, size_t at)
{
    size_t start = at, stop = at;

    while (start && p->data[start - 1] != '\n')
        start--;
    while (stop < p->len && p->data[stop] != '\n')
        stop++;
    return (span){start, stop + (stop < p->len) - start};
}

static span line_pick(const page *p)
{
    return line_at(p, p->len ? pick(p->len) : 0);
}

/* What stands between one of the pairs of quotes of a line; false: there is none. */
static bool quoted_pick(const page *p, span line, span *out)
{
    size_t opening[64], n = 0, stop, skip;

    for (size_t i = line.at; i < line.at + line.len && n < 64; i++)
        if (p->data[i] == '"')
            opening[n++] = i + 1;
    if (n < 2)
        return false;
    skip = pick(n / 2) * 2;
    stop = opening[skip + 1] - 1;
    *out = (span){opening[skip], stop - opening[skip]};
    return true;
}

/* What stands behind the labels or the name of a line, without its newline. */
static span value_of(const page *p, span line)
{
    size_t stop = line.at + line.len, at = stop;

    if (stop > line.at && p->data[stop - 1] == '\n')
        stop--;
    for (at = stop; at > line.at && p->data[at - 1] != ' ' && p->data[at - 1] != '}';)
        at--;
    return (span){at, stop - at};
}

/* ------------------------------------------------------------------- texts */

static const char *const values[] = {
    "",
    "0",
    "1",
    "2",
    "12",
    "0.1",
    "1.0",
    "+Inf",
    "-Inf",
    "NaN",
    "1e3",
    "a",
    "b",
    "q\\\"",
    "b\\\\",
    "n\\n",
    "t\\t",
    "\\",
    "\xc3\xa9",
    "x\xc3\xa9y",
    "\xe2\x82\xac",
    "\xf0\x9f\x98\x80",
    "\xff",
    "\xc0\x80",
    "\xed\xa0\x80",
    "{}",
    "a,b=c",
    "meta-llama/Llama-3.1-8B",
    "meta-llama/Llama-3.1-80B",
    "a value of more than thirty-two bytes, plain",
    "/health",
    "/generate",
    "/get_model_info",
    "200",
    "503",
};
static const char *const numbers[] = {
    "0",
    "0.0",
    "1",
    "1.0",
    "2",
    "3.0",
    "13.0",
    "1234567.0",
    "12345678.0",
    "0.5",
    ".5",
    "5.",
    "-1",
    "-0.0",
    "1e3",
    "8.128902e+06",
    "1.4986231e+07",
    "1e400",
    "4.9e-324",
    "NaN",
    "nan",
    "+Inf",
    "-Inf",
    "infinity",
    "9007199254740993",
    "1234567890123456789",
    "123456789012345",
    "0.1234567890123",
    "1 1395066363000",
    "1 -5",
    "1 1.5",
    "1 # {x=\"1\"} 2",
    "1 5 # {} 2 3",
    "1 # {a=\"b\",c=\"d\"} 0.5 1.5",
    "x",
    "0x1",
    "1_0",
    "",
};
static const char *const lines[] = {
    "\n",
    "  \n",
    "\r\n",
    "# EOF\n",
    "# EOF",
    "# a comment\n",
    "#\n",
    "# TYPE a counter\n",
    "# TYPE a gauge\n",
    "# HELP a b\\n\\\\c\n",
    "# UNIT a_s s\n",
    "# TYPE sglang:time_to_first_token_seconds histogram\n",
    "# TYPE sglang:time_to_first_token_seconds summary\n",
    "# TYPE sglang:inter_token_latency_seconds gaugehistogram\n",
    "# TYPE sglang:num_running_reqs gauge\n",
    "# TYPE a info\n",
    "# TYPE a stateset\n",
    "sglang:time_to_first_token_seconds_bucket{le=\"0.1\",dp_rank=\"0\"} 1\n",
    "sglang:time_to_first_token_seconds_bucket{le=\"+Inf\",dp_rank=\"0\"} 2\n",
    "sglang:time_to_first_token_seconds_sum{dp_rank=\"0\"} 1\n",
    "sglang:time_to_first_token_seconds_count{dp_rank=\"0\"} 2\n",
    "sglang:inter_token_latency_seconds_gsum 1\n",
    "sglang:time_to_first_token_seconds{quantile=\"0.5\"} 1\n",
    "sglang:num_running_reqs{dp_rank=\"0\",tp_rank=\"1\"} 3.0\n",
    "sglang_num_running_reqs{priority=\"1\"} 2\n",
    "ray_sglang_num_queued 4\n",
    "sglang:num_queue_reqs{dp_rank=\"2\"} 4\n",
    "sglang:num_requests_total 5\n",
    "sglang:http_responses_total{endpoint=\"/generate\",status_code=\"500\"} 1\n",
    "sglang:token_usage{tp_rank=\"0\"} 0.5\n",
    "{\"a.b\", x=\"1\"} 1\n",
    "{\"a\\\"b\",\"l\\\\\"=\"1\"} 1\n",
    "a{x=\"1\",} 1\n",
    "a_total 1 # {t=\"1\"} 1 1\n",
    "a{a=\"x\"} 1\n",
    "a_info{b=\"c\"} 1\n",
    "a{quantile=\"0.5\"} 1\n",
    "a_created 1\n",
};
static const char *const words[] = {
    "counter", "gauge", "histogram", "summary",        "untyped",
    "unknown", "info",  "stateset",  "gaugehistogram", "other",
};

#define CHOOSE(list) (list)[pick(sizeof(list) / sizeof *(list))]

/* ----------------------------------------------------------------- changes */

static void text_put(page *p, span part, const char *text)
{
    replace(p, part, text, strlen(text));
}

static void value_change(page *p, span line)
{
    span part, from;
    char copy[256];

    if (!quoted_pick(p, line, &part))
        return;
    switch (pick(4)) {
    case 0: /* the value of another label */
        if (!quoted_pick(p, line_pick(p), &from) || from.len > sizeof copy)
            return;
        memcpy(copy, p->data + from.at, from.len);
        replace(p, part, copy, from.len);
        break;
    case 1: /* its last byte goes, which may be half a character */
        if (part.len)
            replace(p, (span){part.at + part.len - 1, 1}, "", 0);
        break;
    default:
        text_put(p, part, CHOOSE(values));
    }
}

static void number_change(page *p, span line)
{
    text_put(p, value_of(p, line), CHOOSE(numbers));
}

static void word_change(page *p, span line)
{
    if (line.len && p->data[line.at] == '#')
        text_put(p, value_of(p, line), CHOOSE(words));
}

static void line_copy(page *p, span line, size_t to)
{
    char *copy = malloc(line.len + 1);

    if (!copy)
        return;
    memcpy(copy, p->data + line.at, line.len);
    if (line.len && copy[line.len - 1] != '\n')
        copy[line.len++] = '\n';
    replace(p, (span){to, 0}, copy, line.len);
    free(copy);
}

/* The line again behind itself, with another value somewhere: what a page is made of. */
static void line_repeat(page *p, span line)
{
    size_t before = p->len;

    line_copy(p, line, line.at);
    if (p->len == before)
        return;
    line = line_at(p, line.at + line.len);
    if (pick(4))
        value_change(p, line);
    if (pick(2))
        number_change(p, line_at(p, line.at));
}

static void lines_swap(page *p, span a)
{
    span b = line_pick(p);
    size_t before = p->len;

    line_copy(p, a, b.at);
    if (p->len > before) {
        if (b.at <= a.at)
            a.at += p->len - before;
        replace(p, a, "", 0);
    }
}

static void lines_join(page *p, span line)
{
    if (line.len && p->data[line.at + line.len - 1] == '\n')
        replace(p, (span){line.at + line.len - 1, 1}, " ", pick(2));
}

static void line_cut(page *p, span line)
{
    size_t keep = line.len ? pick(line.len) : 0;

    if (pick(4))
        replace(p, (span){line.at + keep, line.len - keep}, "\n", pick(4) != 0);
    else
        p->len = line.at + keep;
}

static void page_change(page *p)
{
    span line = line_pick(p);

    switch (pick(12)) {
    case 0:
        lines_swap(p, line);
        break;
    case 1:
        replace(p, line, "", 0);
        break;
    case 2:
        line_copy(p, line, line_pick(p).at);
        break;
    case 3:
        lines_join(p, line);
        break;
    case 4:
        line_cut(p, line);
        break;
    case 5:
        text_put(p, (span){line.at, 0}, CHOOSE(lines));
        break;
    case 6:
        word_change(p, line);
        break;
    case 7:
        number_change(p, line);
        break;
    case 8:
    case 9:
        value_change(p, line);
        break;
    default:
        line_repeat(p, line);
    }
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    page p = {(char *)data, size, max};

    state = seed * 0x9e3779b97f4a7c15u + 1;
    if (pick(2))
        return LLVMFuzzerMutate(data, size, max);
    for (size_t n = pick(3) + 1; n--;)
        page_change(&p);
    return p.len ? p.len : LLVMFuzzerMutate(data, size, max);
}

/* The first lines of one page and the last of another. */
size_t LLVMFuzzerCustomCrossOver(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len, uint8_t *out,
                                 size_t max, unsigned seed)
{
    page first = {(char *)(uintptr_t)a, a_len, a_len}, second = {(char *)(uintptr_t)b, b_len, b_len};
    size_t head, from, tail;

    state = seed * 0x9e3779b97f4a7c15u + 1;
    head = line_pick(&first).at;
    from = line_pick(&second).at;
    if (head > max)
        head = max;
    tail = b_len - from < max - head ? b_len - from : max - head;
    memcpy(out, a, head);
    memcpy(out + head, b + from, tail);
    return head + tail;
}
