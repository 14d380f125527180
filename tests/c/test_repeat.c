/* A line read by comparing it with the one before is read as if it stood alone:
 * same sample, or the same error in the same column. */
#include <math.h>

#include "check.h"
#include "dice.h"
#include "sgc_int.h"

enum { LINES = 12, LINE_SIZE = 600 };

static const char *value_text(void)
{
    if (pick(40) == 0)
        return CHOOSE("\xff", "\xc3", "a\nb", "n\\", "n\\", "more than the limit of thirty-one bytes");
    return CHOOSE("0", "1", "12", "0.1", "a longer value, of thirty bytes", "", "", "\xc3\xa9", "\xc3\xa8",
                  "x\xc3\xa9y", "q\\\"", "b\\\\", "n\\n", "n\\\"y", "n\\\\", "+Inf",
                  "meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-80B", "\xe2\x82\xac", "\xe2\x82\xad",
                  "tab\t", "{}", "a,b=c");
}

static const char *number_text(void)
{
    if (pick(30) == 0)
        return CHOOSE("x", "", "1e", "0x1");
    return CHOOSE("0.0", "13.0", "8.128902e+06", "NaN", "1234567890123456789", "9999999999999999",
                  "0.1234567890123", "123456789012345", "1234567890.12345", ".5", "5.", "-1", "7");
}

/* Often the line before with one value changed, or another name; now and then anything. */
static void line_make(char *line, const char *before)
{
    char *quote;
    size_t cut;

    if (strchr(before, '{') && pick(8) == 0) {
        snprintf(line, LINE_SIZE, "%s%s%s",
                 CHOOSE("g", "sglang:h_count", "x:y", "", "1g", "h\xc3\xa9",
                        "a_name_of_thirty_one_characters", "a_name_of_thirty_two_characters_"),
                 CHOOSE("", "", "", "", " "), strchr(before, '{'));
        return;
    }
    if (*before && pick(4)) {
        strcpy(line, before);
        if (pick(12) == 0) { /* one byte */
            line[pick((unsigned)strlen(line))] = (char)pick(256);
            if (strlen(line) < strlen(before))
                strcpy(line, "nul 1");
        } else if ((quote = strchr(line, '"'))) { /* one label value */
            for (unsigned skip = pick(4) * 2; skip-- && strchr(quote + 1, '"');)
                quote = strchr(quote + 1, '"');
            cut = (size_t)(quote - line) + 1;
            quote = strchr(quote + 1, '"');
            snprintf(line + cut, LINE_SIZE - cut, "%s%s", value_text(),
                     quote ? before + (quote - line) : "\"} 1");
        }
        return;
    }
    snprintf(line, LINE_SIZE, "%s%s%s=\"%s\",%s=\"%s\",%s=\"%s\"%s} %s%s",
             CHOOSE("sglang:h_bucket", "sglang:h_sum", "g"), CHOOSE("{", "{", "{", "{\"q.n\",", "{ "),
             CHOOSE("a", "dp_rank", "f", "\"q l\"", "\"e\\\\\""), value_text(),
             CHOOSE("b", "le", "model_name"), value_text(), CHOOSE("c", "tp_rank", "d"), value_text(),
             CHOOSE("", "", "", ",", " "), number_text(),
             CHOOSE("", "", "", "", " 1395066363", " # {x=\"1\"} 1"));
}

typedef struct {
    sgc_status status;
    sgc_error err;
    sgc_page *page;
} reading;

static reading read_text(const char *text, size_t len, bool om)
{
    sgc_options options;
    reading r;

    sgc_options_init(&options);
    options.format = om ? SGC_FORMAT_OPENMETRICS : SGC_FORMAT_TEXT;
    options.limits.label_value_length = options.limits.name_length = 31;
    memset(&r.err, 0, sizeof r.err);
    r.status = sgc_page_parse(text, len, &options, &r.page, &r.err);
    return r;
}

static bool same_double(double a, double b)
{
    return memcmp(&a, &b, sizeof a) == 0;
}

static bool same_label(const sgc_label *a, const sgc_label *b)
{
    return sgc__eq(a->name, b->name) && sgc__eq(a->value, b->value) && a->escaped == b->escaped;
}

static bool same_sample(const sgc_page *page, size_t i, const sgc_page *alone)
{
    sgc_label labels[8], other[8];
    sgc_sample s, o;
    bool same;

    sgc_page_sample(page, i, &s);
    sgc_page_sample(alone, 0, &o);
    same = sgc__eq(s.name, o.name) && same_double(s.value, o.value) &&
           same_double(s.timestamp, o.timestamp) && s.n_labels == o.n_labels && s.exemplar == o.exemplar;
    if (!same)
        return false;
    sgc_page_labels(page, i, labels);
    sgc_page_labels(alone, 0, other);
    for (uint32_t k = 0; k < s.n_labels; k++)
        same = same && same_label(&labels[k], &other[k]);
    return same;
}

static unsigned long read_lines, refused_lines;

/* Blank, a comment, or two lines. */
static bool is_not_one_sample(const char *line)
{
    char first = line[strspn(line, " \t\r")];

    return strchr(line, '\n') || first == '#' || first == '\0';
}

static void page_try(bool om)
{
    static char page[LINES * LINE_SIZE + 16], lines[LINES][LINE_SIZE];
    size_t used = 0;
    reading whole, alone;

    for (int i = 0; i < LINES; i++) {
        line_make(lines[i], i ? lines[pick(3) ? i - 1 : (int)pick((unsigned)i)] : "");
        used += (size_t)sprintf(page + used, "%s\n", lines[i]);
    }
    used += (size_t)sprintf(page + used, om ? "# EOF\n" : "");
    whole = read_text(page, used, om);
    for (size_t i = 0, n = 0; i < LINES; i++) {
        char text[LINE_SIZE + 16];
        size_t len = (size_t)sprintf(text, om ? "%s\n# EOF\n" : "%s\n", lines[i]);
        if (is_not_one_sample(lines[i]))
            break; /* the numbers below no longer agree */
        alone = read_text(text, len, om);
        if (alone.status == SGC_OK && sgc_page_n_samples(alone.page) == 1) {
            if (whole.status == SGC_OK || whole.err.line > i + 1) {
                CHECK_MSG(whole.status != SGC_OK || same_sample(whole.page, n, alone.page), "%s\n%s",
                          i ? lines[i - 1] : "", lines[i]);
                n++;
                read_lines++;
            } else {
                CHECK_MSG(false, "refused among others (%s): %s", whole.err.reason, lines[i]);
            }
        } else {
            CHECK_MSG(whole.status == alone.status && whole.err.line == i + 1 &&
                          whole.err.column == alone.err.column && whole.err.reason == alone.err.reason,
                      "alone %s at %d, here line %d of %d %s at %d: %s", alone.err.reason,
                      (int)alone.err.column, (int)whole.err.line, (int)i + 1, whole.err.reason,
                      (int)whole.err.column, lines[i]);
            refused_lines++;
            i = LINES;
        }
        sgc_page_free(alone.page);
    }
    sgc_page_free(whole.page);
}

/* The family of a sample follows from its name and from the lines before, whether it is
 * read by comparing or not: with a label name that no other line has it never is. */
static void families_try(void)
{
    static const char *const names[] = {"a", "a_sum", "a_bucket", "a_total", "a_count", "b", "b_count"};
    char alike[2048], apart[2048];
    size_t alike_len = 0, apart_len = 0;
    reading first, second;
    sgc_sample s, o;

    for (int i = 0; i < 20; i++) {
        const char *name = choose(names, sizeof names / sizeof *names), *meta = "";
        unsigned value = pick(3);
        if (pick(3) == 0)
            meta = CHOOSE("# TYPE a histogram\n", "# TYPE a gauge\n", "# TYPE a counter\n",
                          "# TYPE b summary\n", "# HELP a_sum x\n", "# TYPE b_count gauge\n", "# HELP b y\n");
        alike_len += (size_t)sprintf(alike + alike_len, "%s%s{x=\"%u\"} 1\n", meta, name, value);
        apart_len += (size_t)sprintf(apart + apart_len, "%s%s{l%d=\"%u\"} 1\n", meta, name, i, value);
    }
    first = read_text(alike, alike_len, false);
    second = read_text(apart, apart_len, false);
    CHECK(first.status == SGC_OK && second.status == SGC_OK);
    for (size_t i = 0; first.status == SGC_OK && i < 20; i++) {
        sgc_page_sample(first.page, i, &s);
        sgc_page_sample(second.page, i, &o);
        CHECK_MSG(s.family == o.family, "sample %d of\n%s", (int)i, alike);
    }
    sgc_page_free(first.page);
    sgc_page_free(second.page);
}

int main(void)
{
    for (int i = 0; i < 2000 && check_failed < 5; i++)
        families_try();
    for (int i = 0; i < 40000 && check_failed < 5; i++)
        page_try(i % 4 == 0);
    CHECK(read_lines > 50000 && refused_lines > 10000);
    printf("test_repeat: %lu lines read, %lu refused\n", read_lines, refused_lines);
    return check_done("test_repeat");
}
