/*
 * check.c - what holds for every reading, whatever the bytes: told by an eye
 * that shares no code with the core.
 */
#include "fuzz.h"

static bool same_bytes(const sgc__buf *a, const sgc__buf *b)
{
    return a->len == b->len && (!a->len || memcmp(a->ptr, b->ptr, a->len) == 0);
}

bool fuzz_same_error(const sgc_error *a, const sgc_error *b)
{
    bool limit = a->limit && b->limit ? strcmp(a->limit, b->limit) == 0 : a->limit == b->limit;

    return a->code == b->code && a->line == b->line && a->column == b->column && limit &&
           a->allowed == b->allowed && strcmp(a->reason, b->reason) == 0 &&
           strcmp(a->excerpt, b->excerpt) == 0;
}

bool fuzz_same_samples(const fuzz_reading *a, const fuzz_reading *b)
{
    return same_bytes(&a->samples, &b->samples);
}

bool fuzz_same(const fuzz_reading *a, const fuzz_reading *b)
{
    if (a->status != b->status)
        return false;
    return a->status == SGC_OK ? fuzz_same_samples(a, b) && same_bytes(&a->families, &b->families)
                               : fuzz_same_error(&a->err, &b->err);
}

/* ------------------------------------------------------------------ UTF-8 */

/* The code point at p; -1 where there is none. *n becomes its length. */
static long point_at(const unsigned char *p, size_t room, size_t *n)
{
    static const long lowest[] = {0, 0, 0x80, 0x800, 0x10000};
    long point;

    *n = p[0] < 0x80 ? 1 : p[0] < 0xc0 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf8 ? 4 : 0;
    if (!*n || *n > room)
        return -1;
    point = *n == 1 ? p[0] : p[0] & (0x7f >> *n);
    for (size_t i = 1; i < *n; i++) {
        if (p[i] >> 6 != 2)
            return -1;
        point = point << 6 | (p[i] & 0x3f);
    }
    return point < lowest[*n] || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff) ? -1 : point;
}

static bool is_utf8(sgc_str text)
{
    size_t n;

    for (size_t i = 0; i < text.len; i += n)
        if (point_at((const unsigned char *)text.ptr + i, text.len - i, &n) < 0)
            return false;
    return true;
}

/* ----------------------------------------------------------------- errors */

static void error_check(const fuzz_reading *r, const char *data, size_t len)
{
    const sgc_error *err = &r->err;
    const char *p = data, *end = data + len, *line_end;
    const char *excerpt_end = memchr(err->excerpt, '\0', SGC_EXCERPT_SIZE);

    MUST(!r->page && err->code == r->status && (r->status == SGC_SYNTAX || r->status == SGC_LIMIT));
    MUST(err->reason && *err->reason && !strchr(err->reason, '\n') && excerpt_end);
    MUST((err->limit != NULL) == (r->status == SGC_LIMIT));
    for (const char *c = err->excerpt; c < excerpt_end; c++)
        MUST(*c >= ' ' && *c <= '~');
    if (err->limit && strcmp(err->limit, "body_bytes") == 0)
        return;
    for (uint64_t line = 1; line < err->line; line++) {
        p = memchr(p, '\n', (size_t)(end - p));
        MUST(p);
        p++;
    }
    line_end = memchr(p, '\n', (size_t)(end - p));
    MUST(err->line >= 1 && err->column >= 1);
    MUST(err->column <= (uint64_t)((line_end ? line_end : end) - p) + 1);
}

/* ------------------------------------------------------------------ pages */

/* Lines that are neither blank nor begin with #. */
static size_t sample_lines(const char *data, size_t len, fuzz_mode mode)
{
    const char *p = data, *end = data + len, *stop;
    size_t n = 0;

    for (; p < end; p = stop + 1) {
        stop = memchr(p, '\n', (size_t)(end - p));
        if (!stop)
            stop = end;
        while (mode == FUZZ_TEXT && p < stop && (*p == ' ' || *p == '\t'))
            p++;
        if (mode == FUZZ_TEXT && p + 1 == stop && *p == '\r')
            p++;
        n += p < stop && *p != '#';
    }
    return n;
}

static bool has_nul(sgc_str text)
{
    return text.len && memchr(text.ptr, '\0', text.len);
}

static void labels_check(const sgc_label *labels, size_t n)
{
    static char plain[FUZZ_ROOM];

    for (size_t i = 0; i < n; i++) {
        sgc_str value = labels[i].value;
        bool backslash = value.len && memchr(value.ptr, '\\', value.len);
        size_t used = sgc_unescape(value, plain);
        MUST(labels[i].name.len && !has_nul(labels[i].name) && is_utf8(labels[i].name));
        MUST(labels[i].escaped == backslash && used <= value.len && is_utf8((sgc_str){plain, used}));
        MUST(!value.len || !memchr(value.ptr, '\n', value.len));
        for (size_t k = 0; k < i; k++)
            MUST(!sgc__eq(labels[k].name, labels[i].name));
    }
}

/* In OpenMetrics an underscore may stand for a colon of the family's name. */
static bool name_fits(sgc_str name, sgc_str family, bool openmetrics)
{
    for (size_t i = 0; i < family.len; i++)
        if (i >= name.len ||
            (name.ptr[i] != family.ptr[i] && !(openmetrics && name.ptr[i] == '_' && family.ptr[i] == ':')))
            return false;
    return true;
}

static void sample_check(const sgc_page *page, size_t i, sgc_family *family)
{
    sgc_label labels[256];
    sgc_sample s;
    sgc_exemplar ex;

    sgc_page_sample(page, i, &s);
    MUST(s.name.len && !has_nul(s.name) && is_utf8(s.name) && s.n_labels <= 128);
    sgc_page_labels(page, i, labels);
    labels_check(labels, s.n_labels);
    if (sgc_page_exemplar(page, i, &ex)) {
        sgc_page_exemplar_labels(page, i, labels);
        labels_check(labels, ex.n_labels);
    }
    sgc_page_family(page, s.family, family);
    MUST(name_fits(s.name, family->name, sgc_page_format(page) == SGC_FORMAT_OPENMETRICS));
    MUST(family->first <= i && i <= family->last);
}

/* A sample is found by its own labels, and none before it that lacks them. */
static void match_check(const sgc_page *page, size_t i)
{
    static char plain[FUZZ_ROOM];
    sgc_label labels[256];
    sgc_sample s;
    size_t first = SIZE_MAX, used = 0;

    sgc_page_sample(page, i, &s);
    sgc_page_labels(page, i, labels);
    for (uint32_t k = 0; k < s.n_labels; k++) {
        size_t n = sgc_unescape(labels[k].value, plain + used);
        labels[k].value = (sgc_str){plain + used, n};
        labels[k].escaped = false;
        used += n;
    }
    MUST(sgc_page_match(page, s.name, labels, s.n_labels, &first) >= 1 && first <= i);
}

static void family_text_check(const sgc_family *family, bool quotes)
{
    static char plain[FUZZ_ROOM];
    size_t used = sgc_unescape_help(family->help, quotes, plain);

    MUST(used <= family->help.len && is_utf8((sgc_str){plain, used}) && is_utf8(family->unit));
    MUST((unsigned)family->type <= SGC_TYPE_SUMMARY && *sgc_type_text(family->type));
}

static void page_check(const sgc_page *page)
{
    size_t n = sgc_page_n_samples(page), counted = 0;
    sgc_family family;

    for (size_t i = 0; i < n; i++)
        sample_check(page, i, &family);
    for (size_t i = 0; i < sgc_page_n_families(page); i++) {
        sgc_page_family(page, i, &family);
        family_text_check(&family, sgc_page_format(page) == SGC_FORMAT_OPENMETRICS);
        MUST(sgc_page_find(page, family.name) == i);
        MUST(!family.n_samples || family.last - family.first + 1 >= family.n_samples);
        counted += family.n_samples;
    }
    MUST(counted == n);
    for (size_t i = 0; i < n; i += n / 8 + 1)
        match_check(page, i);
}

void fuzz_check(const fuzz_reading *r, const char *data, size_t len, fuzz_mode mode)
{
    if (r->status != SGC_OK) {
        error_check(r, data, len);
        return;
    }
    MUST(is_utf8((sgc_str){data, len}));
    MUST(sgc_page_n_samples(r->page) == sample_lines(data, len, mode));
    MUST(sgc_page_format(r->page) == (mode == FUZZ_TEXT ? SGC_FORMAT_TEXT : SGC_FORMAT_OPENMETRICS));
    page_check(r->page);
}

/* ------------------------------------------------------ one page, two ways */

void fuzz_read_part(fuzz_reading *r, const char *data, size_t len, fuzz_mode mode)
{
    char *part = fuzz_edge(FUZZ_PART, len);
    sgc_options options;

    if (len)
        memcpy(part, data, len);
    fuzz_options(&options, mode);
    fuzz_read(r, part, len, &options);
    fuzz_check(r, part, len, mode);
}

bool fuzz_begins(const fuzz_reading *whole, const fuzz_reading *part)
{
    return part->samples.len <= whole->samples.len &&
           (!part->samples.len || memcmp(part->samples.ptr, whole->samples.ptr, part->samples.len) == 0);
}

void fuzz_limits_check(const fuzz_reading *whole, const char *data, size_t len, fuzz_mode mode)
{
    sgc_options options;
    fuzz_reading r;

    fuzz_options(&options, mode);
    options.limits = (sgc_limits){.body_bytes = 1500,
                                  .samples = 20,
                                  .labels_per_sample = 4,
                                  .name_length = 24,
                                  .label_value_length = 30,
                                  .number_length = 12};
    fuzz_read(&r, data, len, &options);
    fuzz_check(&r, data, len, mode);
    if (r.status == SGC_LIMIT)
        MUST(whole->status == SGC_OK || r.err.line <= whole->err.line);
    else
        MUST(fuzz_same(&r, whole));
    fuzz_reading_free(&r);
}
