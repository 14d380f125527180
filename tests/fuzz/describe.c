/*
 * describe.c - a page as bytes: all that the core tells of it, in one order.
 * Built a second time with the portable core, under other names.
 */
#include "fuzz.h"

static void bytes_describe(sgc__buf *out, const void *data, size_t len)
{
    MUST(sgc__buf_append(out, data, len) == SGC_OK);
}

static void count_describe(sgc__buf *out, uint64_t n)
{
    bytes_describe(out, &n, sizeof n);
}

static void text_describe(sgc__buf *out, sgc_str text)
{
    count_describe(out, text.len);
    if (text.len)
        bytes_describe(out, text.ptr, text.len);
}

/* Every NaN is one. */
static void number_describe(sgc__buf *out, double value)
{
    if (value != value)
        value = NAN;
    bytes_describe(out, &value, sizeof value);
}

static void labels_describe(sgc__buf *out, const sgc_label *labels, size_t n)
{
    count_describe(out, n);
    for (size_t i = 0; i < n; i++) {
        text_describe(out, labels[i].name);
        text_describe(out, labels[i].value);
        count_describe(out, labels[i].escaped);
    }
}

static void sample_describe(sgc__buf *out, const sgc_page *page, size_t index)
{
    sgc_label labels[256];
    sgc_sample s;
    sgc_exemplar ex;

    sgc_page_sample(page, index, &s);
    MUST(s.n_labels <= sizeof labels / sizeof *labels && s.family < sgc_page_n_families(page));
    text_describe(out, s.name);
    number_describe(out, s.value);
    number_describe(out, s.timestamp);
    sgc_page_labels(page, index, labels);
    labels_describe(out, labels, s.n_labels);
    MUST(sgc_page_exemplar(page, index, &ex) == s.exemplar);
    if (!s.exemplar)
        return;
    MUST(ex.n_labels <= sizeof labels / sizeof *labels);
    number_describe(out, ex.value);
    number_describe(out, ex.timestamp);
    sgc_page_exemplar_labels(page, index, labels);
    labels_describe(out, labels, ex.n_labels);
}

static void family_describe(sgc__buf *out, const sgc_page *page, size_t index)
{
    sgc_family f;

    sgc_page_family(page, index, &f);
    text_describe(out, f.name);
    text_describe(out, f.help);
    text_describe(out, f.unit);
    count_describe(out, f.type);
    count_describe(out, f.n_samples);
    count_describe(out, f.first);
    count_describe(out, f.last);
}

void fuzz_options(sgc_options *options, fuzz_mode mode)
{
    sgc_options_init(options);
    options->format = mode == FUZZ_TEXT ? SGC_FORMAT_TEXT : SGC_FORMAT_OPENMETRICS;
    options->strict = mode == FUZZ_STRICT;
}

void fuzz_read(fuzz_reading *r, const char *data, size_t len, const sgc_options *options)
{
    memset(r, 0, sizeof *r);
    sgc__buf_init(&r->samples, SIZE_MAX);
    sgc__buf_init(&r->families, SIZE_MAX);
    r->status = sgc_page_parse(data, len, options, &r->page, &r->err);
    if (r->status != SGC_OK)
        return;
    for (size_t i = 0; i < sgc_page_n_samples(r->page); i++) {
        sgc_sample s;
        sample_describe(&r->samples, r->page, i);
        sgc_page_sample(r->page, i, &s);
        count_describe(&r->families, s.family);
    }
    for (size_t i = 0; i < sgc_page_n_families(r->page); i++)
        family_describe(&r->families, r->page, i);
}

void fuzz_reading_free(fuzz_reading *r)
{
    sgc_page_free(r->page);
    sgc__buf_free(&r->samples);
    sgc__buf_free(&r->families);
}
