/* A line among others, which is read by comparing it with the one before, is read as it is alone. */
#include "fuzz.h"

/* Alone it would be another thing: blank, a comment, the end, or a mark of another encoding. */
static bool has_no_sample(const char *line, size_t len, bool om)
{
    while (!om && len && (*line == ' ' || *line == '\t'))
        line++, len--;
    return !len || *line == '#' || (!om && len == 1 && *line == '\r') ||
           (len >= 2 && (memcmp(line, "\xff\xfe", 2) == 0 || memcmp(line, "\xfe\xff", 2) == 0)) ||
           (len >= 3 && memcmp(line, "\xef\xbb\xbf", 3) == 0);
}

static void read_alone(fuzz_reading *r, const char *line, size_t len, fuzz_mode mode)
{
    const char *behind = mode == FUZZ_TEXT ? "\n" : "\n# EOF\n";
    size_t more = strlen(behind);
    char *part = fuzz_edge(FUZZ_PART, len + more);
    sgc_options options;

    memcpy(part, line, len);
    memcpy(part + len, behind, more);
    fuzz_options(&options, mode);
    fuzz_read(r, part, len + more, &options);
}

/* The sample without its family, which other lines decide. */
static bool same_sample(const sgc_page *a, size_t i, const sgc_page *b)
{
    sgc_label mine[256], other[256];
    sgc_exemplar ex = {.n_labels = 0}, ey = {.n_labels = 0};
    sgc_sample s, t;
    bool same;

    sgc_page_sample(a, i, &s);
    sgc_page_sample(b, 0, &t);
    same = sgc__eq(s.name, t.name) && memcmp(&s.value, &t.value, sizeof s.value) == 0 &&
           memcmp(&s.timestamp, &t.timestamp, sizeof s.timestamp) == 0 && s.n_labels == t.n_labels &&
           sgc_page_exemplar(a, i, &ex) == sgc_page_exemplar(b, 0, &ey) && ex.n_labels == ey.n_labels &&
           memcmp(&ex.value, &ey.value, sizeof ex.value) == 0 &&
           memcmp(&ex.timestamp, &ey.timestamp, sizeof ex.timestamp) == 0;
    sgc_page_labels(a, i, mine);
    sgc_page_labels(b, 0, other);
    for (uint32_t k = 0; same && k < s.n_labels; k++)
        same = sgc__eq(mine[k].name, other[k].name) && sgc__eq(mine[k].value, other[k].value) &&
               mine[k].escaped == other[k].escaped;
    sgc_page_exemplar_labels(a, i, mine);
    sgc_page_exemplar_labels(b, 0, other);
    for (uint32_t k = 0; same && k < ex.n_labels; k++)
        same = sgc__eq(mine[k].name, other[k].name) && sgc__eq(mine[k].value, other[k].value);
    return same;
}

/* Line number `line` of the page, whose sample would be its n-th. */
static void line_try(const fuzz_reading *whole, uint64_t line, size_t n, const char *p, size_t len,
                     fuzz_mode mode)
{
    fuzz_reading alone;

    read_alone(&alone, p, len, mode);
    if (whole->status == SGC_OK || line < whole->err.line) {
        MUST(alone.status == SGC_OK && sgc_page_n_samples(alone.page) == 1);
        MUST(whole->status != SGC_OK || same_sample(whole->page, n, alone.page));
    } else if (strcmp(whole->err.reason, "text after # EOF") != 0) {
        alone.err.line = line;
        MUST(alone.status != SGC_OK && fuzz_same_error(&alone.err, &whole->err));
    }
    fuzz_reading_free(&alone);
}

/* `lines` ends with a newline; the page is that, and in OpenMetrics its end. */
static void page_try(const char *lines, size_t len, fuzz_mode mode)
{
    sgc_options options;
    fuzz_reading whole;
    const char *p = lines, *end = lines + len, *stop;
    size_t n = 0;

    fuzz_options(&options, mode);
    fuzz_read(&whole, lines, len + (mode == FUZZ_TEXT ? 0 : 6), &options);
    for (uint64_t line = 1; p < end && (whole.status == SGC_OK || line <= whole.err.line);
         line++, p = stop + 1) {
        stop = memchr(p, '\n', (size_t)(end - p));
        if (!has_no_sample(p, (size_t)(stop - p), mode != FUZZ_TEXT))
            line_try(&whole, line, n++, p, (size_t)(stop - p), mode);
    }
    fuzz_reading_free(&whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char end[] = "# EOF\n";
    bool open = size && data[size - 1] != '\n';
    char *page;

    if (size + 8 > FUZZ_ROOM)
        return 0;
    page = fuzz_edge(FUZZ_PAGE, size + open);
    for (fuzz_mode mode = FUZZ_TEXT; mode <= FUZZ_OPENMETRICS; mode++) {
        if (mode == FUZZ_OPENMETRICS)
            page = fuzz_edge(FUZZ_PAGE, size + open + 6);
        if (size)
            memcpy(page, data, size);
        if (open)
            page[size] = '\n';
        if (mode == FUZZ_OPENMETRICS)
            memcpy(page + size + open, end, 6);
        page_try(page, size + open, mode);
    }
    return 0;
}
