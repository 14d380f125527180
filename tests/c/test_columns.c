/* Values, series and labels of a page where many are wanted at once. */
#define _DEFAULT_SOURCE 1 /* MAP_ANONYMOUS */
#include <math.h>
#include <sys/mman.h>
#include <unistd.h>

#include "alloc.h"
#include "dice.h"
#include "sgc_int.h"

enum { TEXT_SIZE = 16384, LINES_MAX = 40 };

static sgc_page *page_read(const char *text, size_t len, sgc_format format)
{
    sgc_options options;
    sgc_page *page;
    sgc_error err = {.reason = ""};

    sgc_options_init(&options);
    options.format = format;
    CHECK_MSG(sgc_page_parse(text, len, &options, &page, &err) == SGC_OK, "%s: %.*s", err.reason, (int)len,
              text);
    return page;
}

static sgc_page *text_page(const char *text)
{
    return page_read(text, strlen(text), SGC_FORMAT_AUTO);
}

static bool is(sgc_str text, const char *want)
{
    return sgc__eq(text, (sgc_str){want, strlen(want)});
}

/* ----------------------------------------------------------------- values */

static void test_values_stand_a_stride_apart(void)
{
    sgc_page *page = text_page("a 1\n# a comment\nb{c=\"d\"} 2.5 77\n\nc NaN\nd -Inf");
    size_t stride;
    const double *values = sgc_page_values(page, &stride);

    CHECK(sgc_page_n_samples(page) == 4 && values != NULL);
    for (size_t i = 0; i < 4; i++) {
        sgc_sample sample;
        sgc_page_sample(page, i, &sample);
        CHECK(memcmp((const char *)values + i * stride, &sample.value, sizeof sample.value) == 0);
    }
    sgc_page_free(page);
}

static void test_a_page_without_samples_has_no_values(void)
{
    sgc_page *page = text_page("# nothing\n");
    size_t stride;

    CHECK(sgc_page_values(page, &stride) == NULL && stride % sizeof(double) == 0);
    sgc_page_free(page);
}

/* ----------------------------------------------------------------- series */

static void series_check(const char *page_text, const char *want)
{
    sgc_page *page = text_page(page_text);

    CHECK_MSG(page && is(sgc_page_series(page, 0), want), "%s", page_text);
    sgc_page_free(page);
}

static void test_a_series_is_the_text_up_to_its_brace(void)
{
    series_check("a{b=\"c\"} 1\n", "a{b=\"c\"}");
    series_check("a{b=\"c\"} 1 5", "a{b=\"c\"}");
    series_check(" a { b = \"c\" , d=\"\" , }\t1 5 \r\n", "a { b = \"c\" , d=\"\" , }");
    series_check("a{b=\"}{\\\"} 7\"} 1\n", "a{b=\"}{\\\"} 7\"}");
    series_check("a{b=\"\xe2\x82\xac}\"}1\n", "a{b=\"\xe2\x82\xac}\"}");
    series_check("a{b=\"c\"} 1 # {t=\"}\"} 2 3\n# EOF\n", "a{b=\"c\"}");
    series_check("a{b=\"c\",} 1 # {} 2\n# EOF\n", "a{b=\"c\",}");
    series_check("{\"a.b\",c=\"d\"} 1\n", "\"a.b\",c=\"d\"}");
    series_check("{\"a.b\", \"c d\"=\"e\"} 1\n", "\"a.b\", \"c d\"=\"e\"}");
}

static void test_a_series_without_labels_is_its_name(void)
{
    series_check("a 1\n", "a");
    series_check("a{} 1\n", "a");
    series_check("a\t1", "a");
    series_check("{\"a.b\"} 1\n", "\"a.b\"");
}

static void test_a_name_with_escapes_tells_no_series(void)
{
    series_check("{\"a\\n\",c=\"d\"} 1\n", "");
    series_check("{c=\"d\",\"a\"} 1\n", "");
    series_check("a{\"b\\\\\"=\"c\"} 1\n", "");
}

/* ----------------------------------------------------------------- labels */

static bool label_same(const sgc_label *a, const sgc_label *b)
{
    return sgc__eq(a->name, b->name) && sgc__eq(a->value, b->value) && a->escaped == b->escaped;
}

/* From one sample to the next, wherever that is, against a reading of its own. */
static unsigned labels_walk(const sgc_page *page, unsigned steps)
{
    sgc_label labels[8], before[8], want[8];
    bool changed[8];
    size_t at = 0, n = sgc_page_n_samples(page);
    unsigned stepped = 0;

    sgc_page_labels(page, 0, labels);
    for (unsigned step = 0; step < steps; step++) {
        size_t to = pick((unsigned)n);
        sgc_sample sample;
        bool alike;

        sgc_page_sample(page, to, &sample);
        sgc_page_labels(page, at, before);
        sgc_page_labels(page, to, want);
        alike = sgc_page_labels_step(page, at, to, labels, changed);
        for (uint32_t i = 0; alike && i < sample.n_labels; i++) {
            CHECK(label_same(&labels[i], &want[i]));
            CHECK(changed[i] == !sgc__eq(before[i].value, want[i].value));
        }
        if (!alike)
            sgc_page_labels(page, to, labels);
        stepped += alike;
        at = to;
    }
    return stepped;
}

static void test_labels_step_from_sample_to_sample(void)
{
    sgc_page *page = text_page("a{b=\"c\",d=\"e\"} 1\n"
                               "a{b=\"c\",d=\"\"} 1\n"
                               "a{b=\"c\",d=\"f\"} 1\n"
                               "b{b=\"cc\",d=\"e\"} 1\n"
                               "a { b = \"c\" , d=\"e\", } 1\n"
                               "a{b=\"c\\\\\",d=\"e\\n\"} 1\n"
                               "a{\"b\"=\"c\",\"d\"=\"e\"} 1\n"
                               "a{b=\"c\",x=\"e\"} 1\n"
                               "a{b=\"c\"} 1\n"
                               "a 1\n"
                               "{\"q\\n\",b=\"c\",d=\"e\"} 1\n"
                               "a{b=\"c\",d=\"e\\\"}\"} 1");

    CHECK(labels_walk(page, 20000) > 5000);
    sgc_page_free(page);
}

static void test_labels_of_other_names_are_no_step(void)
{
    sgc_page *page =
        text_page("a{b=\"c\"} 1\na{x=\"c\"} 1\na{b=\"c\",d=\"e\"} 1\na 1\n{\"\\n\",b=\"c\"} 1\n");
    sgc_label labels[2];
    bool changed[2];

    for (size_t to = 1; to < 5; to++) {
        sgc_page_labels(page, 0, labels);
        CHECK(!sgc_page_labels_step(page, 0, to, labels, changed));
        sgc_page_labels(page, to, labels);
        CHECK(!sgc_page_labels_step(page, to, 0, labels, changed));
    }
    CHECK(sgc_page_labels_step(page, 3, 3, labels, changed));
    sgc_page_free(page);
}

/* ------------------------------------------------------------------ align */

static const char *const series_forms[] = {
    "a",
    "a{}",
    "a{x=\"1\"}",
    "a{x=\"1\" }",
    "a{x=\"1\",y=\"2\"}",
    "a{x=\"} 1\"}",
    "a{x=\"1\",y=\"a value of more than thirty-two bytes\"}",
    "a{x=\"1\",y=\"a value of more than thirty-two bytez\"}",
    "b{x=\"1\"}",
    "ab",
    "ab{x=\"1\"}",
    "{\"a\"}",
    "{\"a\",x=\"1\"}",
    "{\"a{x=\"}",
    "{\"a{x=\",y=\"}\"}",
    "{\"a\\n\"}",
    "{x=\"1\",\"a\"}",
    "a{x=\",y=\"}",
};

enum { N_FORMS = sizeof series_forms / sizeof *series_forms };

/* Lines of these forms, of which some come twice. */
static size_t lines_pick(const char **lines)
{
    size_t n = pick(LINES_MAX / 2);

    for (size_t i = 0; i < n; i++)
        lines[i] = series_forms[pick(N_FORMS)];
    return n;
}

/* Changes, takes out, puts in or exchanges some. */
static size_t lines_change(const char **lines, size_t n)
{
    for (unsigned times = pick(4); times && n; times--) {
        size_t at = pick((unsigned)n), other = pick((unsigned)n);
        const char *kept = lines[at];
        switch (pick(4)) {
        case 0:
            lines[at] = series_forms[pick(N_FORMS)];
            break;
        case 1:
            memmove(lines + at, lines + at + 1, (--n - at) * sizeof *lines);
            break;
        case 2:
            memmove(lines + at + 1, lines + at, (n++ - at) * sizeof *lines);
            lines[at] = series_forms[pick(N_FORMS)];
            break;
        default:
            lines[at] = lines[other];
            lines[other] = kept;
        }
    }
    return n;
}

static size_t lines_write(char *text, const char *const *lines, size_t n)
{
    size_t used = 0;

    text[0] = '\0';
    for (size_t i = 0; i < n; i++)
        used += (size_t)snprintf(text + used, TEXT_SIZE - used, "%s%s %u%s", pick(9) ? "" : "# }\n", lines[i],
                                 pick(2000), i + 1 < n || pick(2) ? "\n" : "");
    return used;
}

/* Whether a page has a series of that text. */
static bool page_has(const sgc_page *page, sgc_str text)
{
    for (size_t i = 0; text.len && i < sgc_page_n_samples(page); i++)
        if (sgc__eq(sgc_page_series(page, i), text))
            return true;
    return false;
}

static void align_check(const sgc_page *page, const sgc_page *other)
{
    uint32_t found[LINES_MAX];

    CHECK(sgc_page_align(page, other, found, NULL) == SGC_OK);
    for (size_t i = 0; i < sgc_page_n_samples(page); i++) {
        sgc_str text = sgc_page_series(page, i);
        if (found[i] == SGC_NO_SAMPLE)
            CHECK(!page_has(other, text));
        else
            CHECK(found[i] < sgc_page_n_samples(other) && text.len &&
                  sgc__eq(sgc_page_series(other, found[i]), text));
    }
}

static void test_every_series_of_both_pages_is_found(void)
{
    static char first[TEXT_SIZE], second[TEXT_SIZE];
    const char *lines[LINES_MAX];

    for (int round = 0; round < 6000 && !check_failed; round++) {
        size_t n = lines_pick(lines);
        size_t len = lines_write(first, lines, n);
        sgc_page *page = page_read(first, len, SGC_FORMAT_TEXT), *other;

        len = lines_write(second, lines, lines_change(lines, n));
        other = page_read(second, len, SGC_FORMAT_TEXT);
        align_check(page, other);
        align_check(other, page);
        if (check_failed)
            fprintf(stderr, "%s\n--\n%s\n", first, second);
        sgc_page_free(page);
        sgc_page_free(other);
    }
}

static void test_series_in_the_same_order_are_found_in_their_places(void)
{
    sgc_page *page = text_page("a 1\na{b=\"c\"} 2\na 3\n{\"d\"} 4\n");
    sgc_page *other = text_page("a 5\n\na{b=\"c\"} 6 7\na NaN\n{\"d\"} 8\ne 9");
    uint32_t found[4];

    CHECK(sgc_page_align(page, other, found, NULL) == SGC_OK);
    for (uint32_t i = 0; i < 4; i++)
        CHECK(found[i] == i);
    sgc_page_free(page);
    sgc_page_free(other);
}

static const char *const kept_pages[] = {"a 1\nb{c=\"d\"} 2\nc 3\n", "x 1\nb{c=\"d\"} 2\na 3\n"};

static bool aligns(void)
{
    sgc_page *page = NULL, *other = NULL;
    sgc_options options;
    uint32_t found[3];
    sgc_error err = {.code = SGC_OK};
    sgc_status status;

    sgc_options_init(&options);
    status = sgc_page_parse(kept_pages[0], strlen(kept_pages[0]), &options, &page, &err);
    if (status == SGC_OK)
        status = sgc_page_parse(kept_pages[1], strlen(kept_pages[1]), &options, &other, &err);
    if (status == SGC_OK)
        status = sgc_page_align(page, other, found, &err);
    CHECK(status == SGC_OK ? found[0] == 2 && found[1] == 1 && found[2] == SGC_NO_SAMPLE
                           : err.code == SGC_NOMEM);
    sgc_page_free(page);
    sgc_page_free(other);
    return status == SGC_OK;
}

/* --------------------------------------------------------------- page ends */

/* A page whose last byte is followed by one that cannot be read, and whose first
 * byte follows one. */
static char *fenced(const char *text, size_t len)
{
    size_t page_size = (size_t)sysconf(_SC_PAGESIZE);
    char *map = mmap(NULL, 3 * page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (map == MAP_FAILED || mprotect(map, page_size, PROT_NONE) ||
        mprotect(map + 2 * page_size, page_size, PROT_NONE)) {
        CHECK(!"no memory to map");
        exit(EXIT_FAILURE);
    }
    map += page_size;
    return memcpy(len == page_size ? map : map + page_size - len, text, len);
}

static void test_no_byte_outside_a_page_is_read(void)
{
    static const char *const pages[] = {
        "a 1",
        "a{b=\"c\"} 1",
        "{\"a\"} 1",
        "{\"a\",b=\"c\"} 1",
        "a{b=\"a value of more than sixteen bytes\"} 1",
        "a{b=\"a value of more than sixteen bytes and more than that\"} 1",
        "a{b=\"c\",d=\"e\"} 1 # {} 1\n# EOF",
        "a{b=\"a value of more than sixteen bytes and more than that\"} 1\na{b=\"c\"} 1",
    };
    enum { N_PAGES = sizeof pages / sizeof *pages };
    sgc_page *read[N_PAGES];
    sgc_label labels[2];
    bool changed[2];

    for (size_t i = 0; i < N_PAGES; i++)
        read[i] = page_read(fenced(pages[i], strlen(pages[i])), strlen(pages[i]), SGC_FORMAT_AUTO);
    for (size_t i = 0; i < N_PAGES; i++) {
        for (size_t j = 0; j < N_PAGES; j++)
            align_check(read[i], read[j]);
        sgc_page_labels(read[i], 0, labels);
        CHECK(sgc_page_labels_step(read[i], 0, sgc_page_n_samples(read[i]) - 1, labels, changed));
    }
    for (size_t i = 0; i < N_PAGES; i++)
        sgc_page_free(read[i]);
}

/* The first byte of the page is the first that can be read. */
static void test_no_byte_before_a_page_is_read(void)
{
    size_t page_size = (size_t)sysconf(_SC_PAGESIZE);
    char *text = calloc(1, page_size);
    sgc_page *plain, *quoted = text_page("{\"a\"} 1");

    if (!text)
        return;
    memset(text, '\n', page_size);
    memcpy(text, "a 1", 3);
    plain = page_read(fenced(text, page_size), page_size, SGC_FORMAT_TEXT);
    align_check(plain, quoted);
    align_check(quoted, plain);
    sgc_page_free(plain);
    sgc_page_free(quoted);
    free(text);
}

int main(void)
{
    alloc_install();
    test_values_stand_a_stride_apart();
    test_a_page_without_samples_has_no_values();
    test_a_series_is_the_text_up_to_its_brace();
    test_a_series_without_labels_is_its_name();
    test_a_name_with_escapes_tells_no_series();
    test_labels_step_from_sample_to_sample();
    test_labels_of_other_names_are_no_step();
    test_every_series_of_both_pages_is_found();
    test_series_in_the_same_order_are_found_in_their_places();
    test_no_byte_outside_a_page_is_read();
    test_no_byte_before_a_page_is_read();
    printf("test_columns: %ld failing allocations\n", alloc_sweep("align", aligns));
    CHECK(atomic_load(&alloc_live) == 0);
    return check_done("test_columns");
}
