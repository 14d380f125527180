/* Both grammars: what is read, and where exactly what is not read breaks. */
#define _DEFAULT_SOURCE 1 /* MAP_ANONYMOUS */
#include <math.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "parse.h"

enum { TEXT, OPENMETRICS, STRICT };

static sgc_status read_bytes(const char *data, size_t len, int mode, sgc_page **page, sgc_error *err)
{
    sgc_options options;

    sgc_options_init(&options);
    options.format = mode == TEXT ? SGC_FORMAT_TEXT : SGC_FORMAT_OPENMETRICS;
    options.strict = mode == STRICT;
    return sgc_page_parse(data, len, &options, page, err);
}

static sgc_page *read_page(const char *text, int mode)
{
    sgc_page *page;
    sgc_error err;
    sgc_status status = read_bytes(text, strlen(text), mode, &page, &err);

    CHECK_MSG(status == SGC_OK, "%s: %s at %d:%d", text, err.reason, (int)err.line, (int)err.column);
    return page;
}

static bool is(sgc_str text, const char *want)
{
    return sgc__eq(text, (sgc_str){want, strlen(want)});
}

static bool label_is(const sgc_label *label, const char *name, const char *value)
{
    char plain[256];
    size_t len = sgc_unescape(label->value, plain);

    return is(label->name, name) && is((sgc_str){plain, len}, value);
}

/* ---------------------------------------------------------------- samples */

static void test_a_sample_has_name_labels_value_and_time(void)
{
    sgc_page *page = read_page("a 1\n"
                               "  b{ } 2 \t\n"
                               "c{x=\"1\",y = \"two\" , } +3e1 1395066363000\r\n"
                               "d{x=\"q\\\"s\\\\n\\nt\\t\"}-.5 -1\n"
                               "e{} NaN",
                               TEXT);
    sgc_sample s;
    sgc_label labels[2];

    if (!page)
        return;
    CHECK(sgc_page_n_samples(page) == 5 && sgc_page_n_families(page) == 5);
    sgc_page_sample(page, 0, &s);
    CHECK(is(s.name, "a") && s.value == 1 && isnan(s.timestamp) && s.n_labels == 0 && !s.exemplar);
    sgc_page_sample(page, 2, &s);
    CHECK(is(s.name, "c") && s.value == 30 && s.timestamp == 1395066363 && s.n_labels == 2);
    sgc_page_labels(page, 2, labels);
    CHECK(label_is(&labels[0], "x", "1") && label_is(&labels[1], "y", "two"));
    sgc_page_sample(page, 3, &s);
    sgc_page_labels(page, 3, labels);
    CHECK(label_is(&labels[0], "x", "q\"s\\n\nt\\t") && s.value == -0.5 && s.timestamp == -0.001);
    sgc_page_sample(page, 4, &s);
    CHECK(is(s.name, "e") && isnan(s.value));
    sgc_page_free(page);
}

static void test_a_name_may_be_quoted(void)
{
    sgc_page *page =
        read_page("{\"a.b\",x=\"1\"} 1\n{y=\"2\",\"c\\\"d\"} 2\ne{\"l.m\"=\"3\",\"n\\\\o\"=\"4\"} 3\n", TEXT);
    sgc_sample s;
    sgc_label labels[2];

    if (!page)
        return;
    sgc_page_sample(page, 0, &s);
    sgc_page_labels(page, 0, labels);
    CHECK(is(s.name, "a.b") && s.n_labels == 1 && label_is(&labels[0], "x", "1"));
    sgc_page_sample(page, 1, &s);
    sgc_page_labels(page, 1, labels);
    CHECK(is(s.name, "c\"d") && label_is(&labels[0], "y", "2"));
    sgc_page_labels(page, 2, labels);
    CHECK(label_is(&labels[0], "l.m", "3") && label_is(&labels[1], "n\\o", "4"));
    CHECK(sgc_page_find(page, SGC__STR("c\"d")) == 1);
    sgc_page_free(page);
}

static void test_an_exemplar_has_labels_value_and_time(void)
{
    sgc_page *page = read_page("# TYPE a counter\na_total{x=\"1\"} 5 7.5 # {trace=\"t\\n\",s=\"2\"} 0.5 "
                               "9\na_total{x=\"2\"} 1 # {} 3\n# EOF",
                               OPENMETRICS);
    sgc_exemplar ex;
    sgc_label labels[2];
    sgc_sample s;

    if (!page)
        return;
    sgc_page_sample(page, 0, &s);
    CHECK(s.exemplar && s.timestamp == 7.5 && s.n_labels == 1);
    CHECK(sgc_page_exemplar(page, 0, &ex) && ex.value == 0.5 && ex.timestamp == 9 && ex.n_labels == 2);
    sgc_page_exemplar_labels(page, 0, labels);
    CHECK(label_is(&labels[0], "trace", "t\n") && label_is(&labels[1], "s", "2"));
    CHECK(sgc_page_exemplar(page, 1, &ex) && ex.n_labels == 0 && isnan(ex.timestamp));
    CHECK(sgc_page_format(page) == SGC_FORMAT_OPENMETRICS);
    sgc_page_free(page);
}

/* --------------------------------------------------------------- families */

static void test_the_type_line_decides_what_a_family_is(void)
{
    sgc_page *page = read_page(
        "# HELP h He\\\\l\\np \\\"q\\\"\n# TYPE h histogram\nh_sum 1\nh_bucket{le=\"+Inf\"} 2\nh_count 2\n"
        "# TYPE g_count gauge\ng_count{le=\"1\"} 5\n"
        "h_bucket{x=\"late\",le=\"+Inf\"} 1\n"
        "# TYPE c_total counter\nc_total 1\nunknown_sum 3\n",
        TEXT);
    sgc_family f;
    char help[64];

    if (!page)
        return;
    CHECK(sgc_page_n_families(page) == 4);
    sgc_page_family(page, 0, &f);
    CHECK(is(f.name, "h") && f.type == SGC_TYPE_HISTOGRAM && f.n_samples == 4 && f.first == 0 && f.last == 4);
    CHECK(is((sgc_str){help, sgc_unescape_help(f.help, false, help)}, "He\\l\np \\\"q\\\""));
    CHECK(is((sgc_str){help, sgc_unescape_help(f.help, true, help)}, "He\\l\np \"q\""));
    sgc_page_family(page, 1, &f);
    CHECK(is(f.name, "g_count") && f.type == SGC_TYPE_GAUGE && f.n_samples == 1);
    sgc_page_family(page, 2, &f);
    CHECK(is(f.name, "c_total") && f.type == SGC_TYPE_COUNTER);
    sgc_page_family(page, 3, &f);
    CHECK(is(f.name, "unknown_sum") && f.type == SGC_TYPE_UNKNOWN);
    CHECK(sgc_page_find(page, SGC__STR("c_total")) == 2 && sgc_page_find(page, SGC__STR("c")) == SIZE_MAX);
    sgc_page_free(page);
}

static void test_openmetrics_counters_keep_their_suffix(void)
{
    sgc_page *page = read_page("# TYPE c counter\n# UNIT c s\nc_total 1\nc_created 2\n# EOF\n", OPENMETRICS);
    sgc_family f;
    sgc_sample s;

    if (!page)
        return;
    sgc_page_family(page, 0, &f);
    CHECK(is(f.name, "c") && is(f.unit, "s") && f.n_samples == 2 && f.type == SGC_TYPE_COUNTER);
    sgc_page_sample(page, 0, &s);
    CHECK(is(s.name, "c_total"));
    sgc_page_free(page);
}

static void test_matching_compares_plain_values(void)
{
    sgc_page *page = read_page("a{x=\"1\",y=\"q\\\"\"} 1\na{x=\"1\"} 2\na{x=\"2\"} 3\n", TEXT);
    sgc_label x1 = {SGC__STR("x"), SGC__STR("1"), false}, quote = {SGC__STR("y"), SGC__STR("q\""), false};
    sgc_label no_y = {SGC__STR("y"), SGC__STR(""), false}, prefix = {SGC__STR("y"), SGC__STR("q"), false};
    size_t first = 99;

    if (!page)
        return;
    CHECK(sgc_page_match(page, SGC__STR("a"), &x1, 1, &first) == 2 && first == 0);
    CHECK(sgc_page_match(page, SGC__STR("a"), &quote, 1, &first) == 1 && first == 0);
    CHECK(sgc_page_match(page, SGC__STR("a"), &no_y, 1, &first) == 2 && first == 1);
    CHECK(sgc_page_match(page, SGC__STR("a"), &prefix, 1, &first) == 0);
    CHECK(sgc_page_match(page, SGC__STR("a"), NULL, 0, &first) == 3);
    sgc_page_free(page);
}

/* ----------------------------------------------------------------- errors */

typedef struct {
    int mode;
    const char *text;
    int line, column;
    const char *reason;
} broken;

static const broken broken_pages[] = {
    {TEXT, "a 1\nb", 2, 2, "expected { or a value after the name"},
    {TEXT, "a\n", 1, 2, "expected { or a value after the name"},
    {TEXT, "a \n", 1, 3, "expected a value"},
    {TEXT, "a one\n", 1, 3, "expected a number as value"},
    {TEXT, "a 0x10\n", 1, 3, "expected a number as value"},
    {TEXT, "a 1 1.5\n", 1, 5, "expected a timestamp in whole milliseconds"},
    {TEXT, "a 1 9223372036854775808\n", 1, 5, "expected a timestamp in whole milliseconds"},
    {TEXT, "a 1 2 3\n", 1, 7, "expected the end of the line after the timestamp"},
    {TEXT, "1a 1\n", 1, 1, "expected a metric name"},
    {TEXT, "\"a\" 1\n", 1, 1, "a quoted name belongs inside braces"},
    {TEXT, "{x=\"1\"} 1\n", 1, 1, "expected a metric name"},
    {TEXT, "{\"\"} 1\n", 1, 3, "expected a name inside the quotes"},
    {TEXT, "a{x} 1\n", 1, 4, "expected = after a label name"},
    {TEXT, "a{x=1} 1\n", 1, 5, "expected a quoted label value"},
    {TEXT, "a{x=\"1\" y=\"2\"} 1\n", 1, 9, "expected , or } after a label"},
    {TEXT, "a{,x=\"1\"} 1\n", 1, 3, "expected a label name"},
    {TEXT, "a{x=\"1\",,y=\"2\"} 1\n", 1, 9, "expected a label name"},
    {TEXT, "a{x:y=\"1\"} 1\n", 1, 4, "expected = after a label name"},
    {TEXT, "a{x=\"1\",x=\"2\"} 1\n", 1, 9, "duplicate label"},
    {TEXT, "a{x=\"1\",b=\"\",x=\"2\",y=\"3\"} 1\n", 1, 14, "duplicate label"},
    {TEXT, "a{\"\\\\\"=\"\",\"\\\\\"=\"\"} 1\n", 1, 17, "duplicate label"},
    {TEXT, "a{__name__=\"b\"} 1\n", 1, 3, "__name__ is not a label of the page"},
    {TEXT, "a{x=\"1\n\"} 1\n", 1, 7, "line ends inside quotes"},
    {TEXT, "a{x=\"1", 1, 7, "page ends inside quotes"},
    {TEXT, "a{x=\"1\\", 1, 8, "page ends inside quotes"},
    {TEXT, "a{x=\"1\"", 1, 8, "expected , or } after a label"},
    {TEXT, "ok 1\na{x=\"\xff\"} 1\n", 2, 6, "invalid UTF-8"},
    {TEXT, "a{x=\"\xc0\x80\"} 1\n", 1, 6, "invalid UTF-8"},
    {TEXT, "a{x=\"\xed\xa0\x80\"} 1\n", 1, 6, "invalid UTF-8"},
    {TEXT, "a{x=\"\xf4\x90\x80\x80\"} 1\n", 1, 6, "invalid UTF-8"},
    {TEXT, "a{x=\"\xe2\x82\"} 1\n", 1, 6, "invalid UTF-8"},
    {TEXT, "a\xff 1\n", 1, 2, "invalid UTF-8"},
    {TEXT, "# HELP a b\xff\n", 1, 11, "invalid UTF-8"},
    {TEXT, "# a comment \xff\n", 1, 13, "invalid UTF-8"},
    {TEXT,
     "\xef\xbb\xbf"
     "a 1\n",
     1, 1, "the page begins with a UTF-8 byte order mark"},
    {TEXT,
     "\xff\xfe"
     "a",
     1, 1, "the page begins with a UTF-16 byte order mark"},
    {TEXT, "# TYPE a gauges\n", 1, 10, "expected a metric type"},
    {TEXT, "# TYPE a\n", 1, 9, "expected a metric type"},
    {TEXT, "# TYPE \n", 1, 8, "expected a metric name"},
    {TEXT, "# TYPE a gauge b\n", 1, 16, "expected the end of the line after the type"},
    {TEXT, "# HELP 1 b\n", 1, 8, "expected a metric name"},
    {TEXT, "a 1\r b 2\n", 1, 4, "expected the end of the line after the timestamp"},
    {TEXT, "a 1 # {} 1\n", 1, 5, "expected a timestamp"},
    {OPENMETRICS, "a 1\n", 2, 1, "truncated: the page ends without # EOF"},
    {OPENMETRICS, "", 1, 1, "truncated: the page ends without # EOF"},
    {OPENMETRICS, "# EOF\na 1\n", 2, 1, "text after # EOF"},
    {OPENMETRICS, "# EOF\n# EOF\n", 2, 1, "text after # EOF"},
    {OPENMETRICS, "a 1\n\n# EOF\n", 2, 1, "expected a metric name"},
    {OPENMETRICS, "a  1\n# EOF\n", 1, 3, "expected a value"},
    {OPENMETRICS, "a 1 \n# EOF\n", 1, 5, "expected a timestamp"},
    {OPENMETRICS, "a 1\r\n# EOF\n", 1, 4, "expected the end of the line, a timestamp or an exemplar"},
    {OPENMETRICS, "a{x=\"1\", y=\"2\"} 1\n# EOF\n", 1, 9, "expected a label name"},
    {OPENMETRICS, "a inf\n# EOF\n", 1, 3, "expected a number as value"},
    {OPENMETRICS, "a 1 NaN\n# EOF\n", 1, 5, "expected a timestamp in seconds"},
    {OPENMETRICS, "a 1 # {x=\"1\"}\n# EOF\n", 1, 14, "expected a space before the exemplar's value"},
    {OPENMETRICS, "# TYPE a untyped\n# EOF\n", 1, 10, "expected a metric type"},
    {OPENMETRICS, "# a comment\n# EOF\n", 1, 3, "expected HELP, TYPE, UNIT or EOF"},
    {OPENMETRICS, "#HELP a b\n# EOF\n", 1, 2, "expected a space after #"},
    {STRICT, "a{x=\"1\",} 1\n# EOF\n", 1, 9, "expected a label after the comma"},
    {STRICT, "# TYPE a counter\na 1\n# EOF\n", 2, 1, "a sample of this type needs a suffix"},
    {STRICT, "a 1\n# TYPE a gauge\n# EOF\n", 2, 1, "metadata stands before the samples of its family"},
    {STRICT, "# TYPE a gauge\n# TYPE a gauge\n# EOF\n", 2, 1, "a second line of this kind for the family"},
    {STRICT, "a 1\nb 1\na{x=\"1\"} 1\n# EOF\n", 3, 1, "the lines of a family stand together"},
    {STRICT, "a 1\na 1\n# EOF\n", 2, 1, "the same series twice"},
    {STRICT, "a 1 2\na 1 1\n# EOF\n", 2, 1, "timestamps fall"},
    {STRICT, "a 1\na 1 1\n# EOF\n", 2, 1, "a metric's samples have timestamps all or none"},
    {STRICT, "# TYPE a info\na_info 2\n# EOF\n", 2, 1, "an info sample is 1"},
    {STRICT, "# TYPE a stateset\na{a=\"x\"} 2\n# EOF\n", 2, 1, "a stateset sample is 0 or 1"},
    {STRICT, "# TYPE a stateset\na{b=\"x\"} 1\n# EOF\n", 2, 1,
     "a stateset sample needs a label of its family's name"},
    {STRICT, "# TYPE a summary\na{quantile=\"2\"} 1\n# EOF\n", 2, 1,
     "a summary sample needs a quantile from 0 to 1"},
    {STRICT, "# TYPE a counter\na_total -1\n# EOF\n", 2, 1, "a total or sum is not negative and not NaN"},
    {STRICT, "# TYPE a histogram\na_bucket{le=\"+Inf\"} 1.5\n# EOF\n", 2, 1,
     "a count is a whole number from 0 on"},
    {STRICT, "# TYPE a histogram\na_bucket 1\n# EOF\n", 2, 1, "a bucket without le"},
    {STRICT, "# TYPE a histogram\na_bucket{le=\"inf\"} 1\n# EOF\n", 2, 1, "le is not a bucket bound"},
    {STRICT, "# TYPE a histogram\na_bucket{le=\"2\"} 1\na_bucket{le=\"1\"} 1\n# EOF\n", 3, 1,
     "bucket bounds do not rise"},
    {STRICT, "# TYPE a histogram\na_bucket{le=\"1\"} 2\na_bucket{le=\"+Inf\"} 1\n# EOF\n", 3, 1,
     "bucket counts fall"},
    {STRICT, "# TYPE a histogram\na_bucket{le=\"1\"} 2\n# EOF\n", 3, 1, "a histogram without a +Inf bucket"},
    {STRICT, "# TYPE a histogram\na_bucket{le=\"+Inf\"} 2\na_count 1\na_sum 1\n# EOF\n", 5, 1,
     "the count of a histogram differs from its +Inf bucket"},
    {STRICT, "# TYPE a histogram\na_bucket{le=\"+Inf\"} 2\na_count 2\n# EOF\n", 4, 1,
     "a histogram has both a count and a sum, or neither"},
    {STRICT, "# TYPE a gauge\na 1 # {} 1\n# EOF\n", 2, 1, "only buckets and totals have exemplars"},
    {STRICT, "# TYPE a gauge\n# UNIT a s\n# EOF\n", 3, 1, "the family's name does not end in its unit"},
    {STRICT, "# TYPE a_total gauge\n# TYPE a counter\n# EOF\n", 3, 1,
     "two families share the name of a sample"},
};

static void test_a_malformed_page_tells_line_column_and_reason(void)
{
    for (size_t i = 0; i < sizeof broken_pages / sizeof *broken_pages; i++) {
        const broken *b = &broken_pages[i];
        sgc_page *page;
        sgc_error err = {.code = SGC_OK};
        sgc_status status = read_bytes(b->text, strlen(b->text), b->mode, &page, &err);
        CHECK_MSG(status == SGC_SYNTAX && !page, "%s", b->text);
        CHECK_MSG(status != SGC_OK && (int)err.line == b->line && (int)err.column == b->column &&
                      err.reason && strcmp(err.reason, b->reason) == 0,
                  "%s: %s at %d:%d", b->text, err.reason, (int)err.line, (int)err.column);
        sgc_page_free(page);
    }
}

static void test_the_excerpt_is_printable(void)
{
    static const char text[] = "a{x=\"\x01\t\xc3\xa9\"} b\\c\nnext 1\n";
    sgc_page *page;
    sgc_error err;

    read_bytes(text, sizeof text - 1, TEXT, &page, &err);
    CHECK_MSG(strcmp(err.excerpt, "b\\x5cc") == 0, "%s", err.excerpt);
}

static void test_nul_is_text_inside_values_and_help_alone(void)
{
    static const char good[] = "# HELP a x\0y\na{x=\"1\0002\"} 1\n", name[] = "a\0b 1\n",
                      comment[] = "# c\0\n";
    sgc_page *page;
    sgc_error err;
    sgc_label label;

    CHECK(read_bytes(good, sizeof good - 1, TEXT, &page, &err) == SGC_OK);
    if (page) {
        sgc_page_labels(page, 0, &label);
        CHECK(label.value.len == 3 && memcmp(label.value.ptr, "1\0002", 3) == 0);
    }
    sgc_page_free(page);
    CHECK(read_bytes(name, sizeof name - 1, TEXT, &page, &err) == SGC_SYNTAX && err.column == 2);
    CHECK(read_bytes(comment, sizeof comment - 1, TEXT, &page, &err) == SGC_SYNTAX && err.column == 4);
}

/* ----------------------------------------------------------------- limits */

static void check_limit(const char *text, const sgc_limits *limits, const char *limit, uint64_t allowed)
{
    sgc_options options;
    sgc_page *page;
    sgc_error err;

    sgc_options_init(&options);
    options.limits = *limits;
    CHECK_MSG(sgc_page_parse(text, strlen(text), &options, &page, &err) == SGC_LIMIT && !page, "%s", limit);
    CHECK_MSG(err.limit && strcmp(err.limit, limit) == 0 && err.allowed == allowed, "%s", limit);
}

static void test_every_limit_is_an_error_that_names_it(void)
{
    static const char text[] = "abc{x=\"12345\",yz=\"2\"} 1234\nb 1\n";
    sgc_limits exact = {.body_bytes = sizeof text - 1,
                        .samples = 2,
                        .labels_per_sample = 2,
                        .name_length = 3,
                        .label_value_length = 5,
                        .number_length = 4},
               low;
    sgc_options options;
    sgc_page *page;

    sgc_options_init(&options);
    options.limits = exact;
    CHECK(sgc_page_parse(text, sizeof text - 1, &options, &page, NULL) == SGC_OK);
    sgc_page_free(page);
#define LOWER(field) (low = exact, low.field--, check_limit(text, &low, #field, low.field))
    LOWER(body_bytes), LOWER(samples), LOWER(labels_per_sample);
    LOWER(name_length), LOWER(label_value_length), LOWER(number_length);
#undef LOWER
}

/* ------------------------------------------------------------- over-reads */

static const char golden[] = "# HELP sglang:q_seconds Time \\\\ spent\n# TYPE sglang:q_seconds histogram\n"
                             "sglang:q_seconds_sum{m=\"a/b\\\"c\",rank=\"0\"} "
                             "1.5e+03\nsglang:q_seconds_bucket{le=\"0.1\",m=\"\xc3\xa9\"} 1.0\n"
                             "{\"n.m\",x=\"1\"} NaN 123\n# EOF\n";

/* Every prefix of a page, and every page with one byte changed, ends where an
 * unreadable page begins: one byte too far is a crash. */
static void test_no_byte_behind_the_end_is_read(void)
{
    size_t page_size = (size_t)sysconf(_SC_PAGESIZE), len = sizeof golden - 1;
    char *map = mmap(NULL, 2 * page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned read = 0, refused = 0;
    sgc_page *page;

    if (map == MAP_FAILED || mprotect(map + page_size, page_size, PROT_NONE)) {
        CHECK(!"no memory to map");
        return;
    }
    for (int mode = TEXT; mode <= STRICT; mode++) {
        for (size_t n = 0; n <= len; n++) {
            char *start = map + page_size - n;
            memcpy(start, golden, n);
            *(read_bytes(start, n, mode, &page, NULL) == SGC_OK ? &read : &refused) += 1;
            sgc_page_free(page);
        }
        for (size_t i = 0; i < len * 256; i++) {
            char *start = map + page_size - len;
            memcpy(start, golden, len);
            start[i / 256] = (char)i;
            *(read_bytes(start, len, mode, &page, NULL) == SGC_OK ? &read : &refused) += 1;
            sgc_page_free(page);
        }
    }
    CHECK(read > 1000 && refused > 1000);
    munmap(map, 2 * page_size);
}

static void test_the_format_can_be_told_by_the_last_line(void)
{
    sgc_options options;
    sgc_page *page;

    sgc_options_init(&options);
    options.format = SGC_FORMAT_AUTO;
    CHECK(sgc_page_parse("a 1\n# EOF", 9, &options, &page, NULL) == SGC_OK &&
          sgc_page_format(page) == SGC_FORMAT_OPENMETRICS);
    sgc_page_free(page);
    CHECK(sgc_page_parse("a 1\n# EOFs\n", 11, &options, &page, NULL) == SGC_OK &&
          sgc_page_format(page) == SGC_FORMAT_TEXT);
    sgc_page_free(page);
}

/* Sixteen bytes at a time or one, near the end of the page or not. */
static void test_scanners_stop_at_the_same_byte_wherever_it_stands(void)
{
    char text[48];
    sgc__fault fault;

    for (int byte = 0; byte < 256; byte++) {
        bool letter = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || byte == '_';
        bool in_name = letter || (byte >= '0' && byte <= '9') || byte == ':';
        for (size_t at = 0; at < sizeof text; at++) {
            const char *end = text + sizeof text, *stop;
            memset(text, 'n', sizeof text);
            text[at] = (char)byte;
            stop = in_name && (at || letter || byte == ':') ? end : text + at;
            CHECK_MSG(sgc__scan_name(text, end) == stop, "byte %d at %d", byte, (int)at);
            stop = byte == '\n' ? text + at : byte < 0x80 ? end : NULL;
            CHECK_MSG(sgc__scan_text(text, end, &fault) == stop && (stop || fault.at == text + at),
                      "byte %d at %d", byte, (int)at);
        }
    }
}

int main(void)
{
    test_scanners_stop_at_the_same_byte_wherever_it_stands();
    test_a_sample_has_name_labels_value_and_time();
    test_a_name_may_be_quoted();
    test_an_exemplar_has_labels_value_and_time();
    test_the_type_line_decides_what_a_family_is();
    test_openmetrics_counters_keep_their_suffix();
    test_matching_compares_plain_values();
    test_a_malformed_page_tells_line_column_and_reason();
    test_the_excerpt_is_printable();
    test_nul_is_text_inside_values_and_help_alone();
    test_every_limit_is_an_error_that_names_it();
    test_no_byte_behind_the_end_is_read();
    test_the_format_can_be_told_by_the_last_line();
    return check_done("test_parse");
}
