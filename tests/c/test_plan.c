/* Plans: which series count, and how they become one number. */
#include <math.h>

#include "check.h"
#include "sgc_int.h"

#define LIST(...) (const sgc_str[]){__VA_ARGS__}, sizeof((const sgc_str[]){__VA_ARGS__}) / sizeof(sgc_str)
#define S(text) {(text), sizeof(text) - 1}

static sgc_fold *fold_all(const char *text, const sgc_extract *extracts, size_t n, sgc_format format)
{
    static const sgc_str prefixes[] = {S("s:"), S("s_")};
    sgc_options options;
    sgc_plan *plan;
    sgc_fold *fold = NULL;
    sgc_error err;

    sgc_options_init(&options);
    options.format = format;
    CHECK(sgc_plan_new(prefixes, 2, &plan, &err) == SGC_OK);
    for (size_t i = 0; i < n; i++)
        CHECK_MSG(sgc_plan_add(plan, &extracts[i], &err) == SGC_OK, "%s", err.reason);
    CHECK_MSG(sgc_plan_fold(plan, text, strlen(text), &options, &fold, &err) == SGC_OK, "%s", err.reason);
    sgc_plan_free(plan);
    return fold;
}

static sgc_fold *fold_format(const char *text, const sgc_extract *extract, sgc_format format)
{
    return fold_all(text, extract, 1, format);
}

static sgc_fold *fold(const char *text, const sgc_extract *extract)
{
    return fold_format(text, extract, SGC_FORMAT_TEXT);
}

/* The one number the extract gives; NaN where it is absent. */
static double value(const char *text, sgc_extract extract)
{
    sgc_fold *f = fold(text, &extract);
    const sgc_slot *slot = f ? sgc_fold_slot(f, 0) : NULL;
    double v = slot && slot->kind == SGC_SLOT_VALUE ? slot->value : NAN;

    sgc_fold_free(f);
    return v;
}

#define EXTRACT(...) ((sgc_extract){__VA_ARGS__})
#define NAMES(...)                           \
    .names = (const sgc_str[]){__VA_ARGS__}, \
    .n_names = sizeof((const sgc_str[]){__VA_ARGS__}) / sizeof(sgc_str)

static void test_series_become_one_by_sum_max_or_mean(void)
{
    static const char page[] = "s:a{x=\"1\"} 1\ns:a{x=\"2\"} 5\ns:a 3\nother 100\n";

    CHECK(value(page, EXTRACT(NAMES(S("a")))) == 9);
    CHECK(value(page, EXTRACT(NAMES(S("a")), .reduce = SGC_REDUCE_MAX)) == 5);
    CHECK(value(page, EXTRACT(NAMES(S("a")), .reduce = SGC_REDUCE_MEAN)) == 3);
    CHECK(isnan(value(page, EXTRACT(NAMES(S("b"))))));
}

static void test_the_first_name_on_the_page_counts(void)
{
    CHECK(value("s:old 1\ns:new 2\n", EXTRACT(NAMES(S("new"), S("old")))) == 2);
    CHECK(value("s:new 2\ns:old 1\n", EXTRACT(NAMES(S("new"), S("old")))) == 2);
    CHECK(value("s:old 1\n", EXTRACT(NAMES(S("new"), S("old")))) == 1);
    CHECK(value("s_a 1\ns:a 2\n", EXTRACT(NAMES(S("a")))) == 2);
    CHECK(value("s_a 1\n", EXTRACT(NAMES(S("a")))) == 1);
}

/* Two samples that differ in tp at most are one measurement, however it is written. */
static void test_series_are_told_apart_by_what_their_labels_say(void)
{
    static const char plain[] = "{a=\"1\",b=\"2\",tp=\"0\"}";
    static const char *const same[] = {
        "{b=\"2\",a=\"1\",tp=\"1\"}",     "{ a = \"1\" , b=\"2\",tp=\"1\"}", "{tp=\"1\",a=\"1\",b=\"2\",}",
        "{\"a\"=\"1\",b=\"2\",tp=\"1\"}", "{a=\"1\",aa=\"\",b=\"2\"}",       "{a=\"1\",\"b\"=\"2\",tp=\"\"}",
    };
    static const char *const others[] = {
        "{a=\"1\",b=\"2\",c=\"3\"}",
        "{\"a=\\\"1\\\",b\"=\"2\",tp=\"1\"}",
        "{a=\"1\\\",b=\\\"2\"}",
        "{a=\"1\",bb=\"2\"}",
        "{a=\"1\"}",
        "{}",
    };
    sgc_extract x = EXTRACT(NAMES(S("a")), .without = (const sgc_str[]){S("tp")}, .n_without = 1);
    char page[200];

    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        snprintf(page, sizeof page, "s:a%s 5\ns:a%s 7\n", plain, same[i]);
        CHECK_MSG(value(page, x) == 5, "%s", same[i]);
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        snprintf(page, sizeof page, "s:a%s 5\ns:a%s 7\ns:a%s 9\n", plain, others[i], plain);
        CHECK_MSG(value(page, x) == 12, "%s", others[i]);
    }
    snprintf(page, sizeof page, "s:a%s 5\ns:a%s 7\n", "{a=\"b\",c=\"\\\\\"}", "{\"a=\\\"b\\\",c\"=\"\\\\\"}");
    CHECK(value(page, x) == 12);
}

static void test_conditions_choose_series(void)
{
    static const char page[] =
        "s:r{code=\"500\",path=\"/generate\"} 1\ns:r{code=\"503\",path=\"/metrics\"} 10\n"
        "s:r{code=\"200\",path=\"/generate\"} 100\ns:r{code=\"500\"} 1000\ns:r{path=\"a\\\"b\",code=\"1\"} "
        "10000\n";
    sgc_cond starts5 = {S("code"), SGC_OP_STARTS, false, LIST(S("5"))};
    sgc_cond not_metrics = {S("path"), SGC_OP_IS, true, LIST(S("/metrics"), S("/health"))};
    sgc_cond ends = {S("path"), SGC_OP_ENDS, false, LIST(S("trics"), S("ate"))};
    sgc_cond empty = {S("path"), SGC_OP_IS, false, LIST(S(""))};
    sgc_cond quote = {S("path"), SGC_OP_IS, false, LIST(S("a\"b"))};
    sgc_cond both[] = {starts5, not_metrics};

    CHECK(value(page, EXTRACT(NAMES(S("r")), .where = &starts5, .n_where = 1)) == 1011);
    CHECK(value(page, EXTRACT(NAMES(S("r")), .where = both, .n_where = 2)) == 1001);
    CHECK(value(page, EXTRACT(NAMES(S("r")), .where = &ends, .n_where = 1)) == 111);
    CHECK(value(page, EXTRACT(NAMES(S("r")), .where = &empty, .n_where = 1)) == 1000);
    CHECK(value(page, EXTRACT(NAMES(S("r")), .where = &quote, .n_where = 1)) == 10000);
}

#define RANKED                                                                \
    .without = (const sgc_str[]){S("pp"), S("tp"), S("pid")}, .n_without = 3, \
    .lowest = (const sgc_str[]){S("pp"), S("tp")}, .n_lowest = 2

static void test_of_repeats_the_lowest_rank_stands(void)
{
    /* Ranks compare as numbers: 2 is lower than 10. Labels in any order, empty as absent. */
    CHECK(value("s:a{tp=\"10\"} 7\ns:a{tp=\"2\"} 5\n", EXTRACT(NAMES(S("a")), RANKED)) == 5);
    CHECK(value("s:a{pp=\"1\",tp=\"0\"} 7\ns:a{pp=\"0\",tp=\"1\"} 5\n", EXTRACT(NAMES(S("a")), RANKED)) == 5);
    CHECK(value("s:a{dp=\"0\",tp=\"0\"} 1\ns:a{tp=\"1\",dp=\"0\"} 50\ns:a{dp=\"1\",tp=\"8\"} "
                "2\ns:a{dp=\"1\",tp=\"9\"} 90\n",
                EXTRACT(NAMES(S("a")), RANKED)) == 3);
    CHECK(value("s:a{x=\"\",tp=\"1\"} 7\ns:a{tp=\"0\"} 5\n", EXTRACT(NAMES(S("a")), RANKED)) == 5);
    CHECK(value("s:a{tp=\"0\",pid=\"9\"} 7\ns:a{tp=\"0\",pid=\"8\"} 5\n", EXTRACT(NAMES(S("a")), RANKED)) ==
          7);
    CHECK(value("s:a{tp=\"x\"} 7\ns:a{tp=\"1\"} 5\n", EXTRACT(NAMES(S("a")), RANKED)) == 5);
    CHECK(value("s:a{x=\"q\\\"\",tp=\"1\"} 7\ns:a{tp=\"0\",x=\"q\\\"\"} 5\n",
                EXTRACT(NAMES(S("a")), RANKED)) == 5);
}

enum { SERIES = 20 };

/* A family of so many series, in an order, their values all `each`. */
static size_t family_write(char *out, const char *name, int each, size_t n, size_t stride)
{
    size_t used = 0;

    for (size_t i = 0; i < n; i++)
        used += (size_t)sprintf(out + used, "%s{k=\"%zu\",tp=\"0\"} %d\n", name, i * stride % SERIES, each);
    return used;
}

/* Families whose series come in the order of one before, or leave it. */
static void test_each_family_has_its_own_series(void)
{
    const sgc_extract extracts[] = {
        EXTRACT(NAMES(S("a")), .without = LIST(S("tp"))), EXTRACT(NAMES(S("b")), .without = LIST(S("tp"))),
        EXTRACT(NAMES(S("c")), .without = LIST(S("tp"))), EXTRACT(NAMES(S("d")), .without = LIST(S("tp"))),
        EXTRACT(NAMES(S("e")), .without = LIST(S("tp"))),
    };
    static const double sums[] = {SERIES, 2 * (SERIES - 1) + 5, 3 * SERIES + 7, 4 * (SERIES - 5), 2};
    char page[8192];
    size_t used = family_write(page, "s:a", 1, SERIES, 1);
    sgc_fold *f;

    used += family_write(page + used, "s:b", 2, SERIES - 1, 1);
    used += (size_t)sprintf(page + used, "s:b{k=\"3\",tp=\"0\"} 9\ns:b{k=\"x\",tp=\"0\"} 5\n");
    used += family_write(page + used, "s:c", 3, SERIES, 3);
    used += family_write(page + used, "s:c", 9, SERIES, 1);
    used += (size_t)sprintf(page + used, "s:c{k=\"x\",tp=\"0\"} 7\n");
    used += family_write(page + used, "s:d", 4, SERIES - 5, 3);
    sprintf(page + used, "s:e{k=\"0\",tp=\"0\"} 1\ns:e{k=\"6\",tp=\"0\"} 1\ns:e{k=\"6\",tp=\"0\"} 1\n");
    f = fold_all(page, extracts, 5, SGC_FORMAT_TEXT);
    for (size_t i = 0; f && i < 5; i++)
        CHECK_MSG(sgc_fold_slot(f, i)->value == sums[i], "%zu: %g", i, sgc_fold_slot(f, i)->value);
    sgc_fold_free(f);
}

/* The series of one name give way to those of a better one, while another family has them. */
static void test_a_better_name_takes_its_series_from_nobody(void)
{
    const sgc_extract extracts[] = {
        EXTRACT(NAMES(S("new"), S("old")), .without = LIST(S("tp"))),
        EXTRACT(NAMES(S("b")), .without = LIST(S("tp"))),
    };
    static const char page[] = "s:old{k=\"1\",tp=\"0\"} 1\ns:old{k=\"2\",tp=\"0\"} 1\n"
                               "s:b{k=\"1\",tp=\"0\"} 10\n"
                               "s:new{k=\"3\",tp=\"0\"} 100\ns:new{k=\"1\",tp=\"0\"} 100\n"
                               "s:b{k=\"1\",tp=\"0\"} 20\ns:b{k=\"4\",tp=\"0\"} 40\n";
    sgc_fold *f = fold_all(page, extracts, 2, SGC_FORMAT_TEXT);

    CHECK(f && sgc_fold_slot(f, 0)->value == 200 && sgc_fold_slot(f, 1)->value == 50);
    sgc_fold_free(f);
}

static void test_nan_is_absent_not_zero(void)
{
    CHECK(isnan(value("s:a{x=\"1\"} NaN\ns:a{x=\"2\"} 5\n", EXTRACT(NAMES(S("a"))))));
    CHECK(
        isnan(value("s:a{x=\"1\"} NaN\ns:a{x=\"2\"} 5\n", EXTRACT(NAMES(S("a")), .reduce = SGC_REDUCE_MAX))));
    CHECK(value("s:a{tp=\"0\"} 5\ns:a{tp=\"1\"} NaN\n", EXTRACT(NAMES(S("a")), RANKED)) == 5);
}

static void test_the_type_decides_between_value_and_histogram(void)
{
    static const char histogram[] =
        "# TYPE s:k histogram\ns:k_bucket{le=\"+Inf\"} 2\ns:k_sum 3\ns:k_count 2\n";
    static const char gauge[] = "# TYPE s:k gauge\ns:k 7\n# TYPE s:k_count gauge\ns:k_count 4\n";
    sgc_extract as_histogram = EXTRACT(NAMES(S("k")), .kind = SGC_KIND_HISTOGRAM);
    sgc_fold *f;

    CHECK(isnan(value(histogram, EXTRACT(NAMES(S("k"))))) &&
          isnan(value(histogram, EXTRACT(NAMES(S("k_count"))))));
    CHECK(value(gauge, EXTRACT(NAMES(S("k")))) == 7 && value(gauge, EXTRACT(NAMES(S("k_count")))) == 4);
    f = fold(gauge, &as_histogram);
    CHECK(f && sgc_fold_slot(f, 0)->kind == SGC_SLOT_ABSENT && !sgc_fold_slot(f, 0)->reason);
    sgc_fold_free(f);
    f = fold(histogram, &as_histogram);
    CHECK(f && sgc_fold_slot(f, 0)->kind == SGC_SLOT_HIST && sgc_fold_slot(f, 0)->hist->sum == 3);
    CHECK(f && sgc_fold_n_samples(f) == 3);
    sgc_fold_free(f);
}

static void test_by_gives_a_map_in_page_order(void)
{
    sgc_extract extract = EXTRACT(NAMES(S("a")), .by = S("mode"), RANKED);
    sgc_fold *f = fold("s:a{mode=\"z\",tp=\"1\"} 9\ns:a{mode=\"b\"} NaN\ns:a{mode=\"z\",tp=\"0\"} "
                       "1\ns:a{mode=\"z\",x=\"1\"} 2\ns:a 4\n",
                       &extract);
    const sgc_slot *slot = f ? sgc_fold_slot(f, 0) : NULL;

    if (slot) {
        CHECK(slot->kind == SGC_SLOT_MAP && slot->n_entries == 2 && slot->n_series == 4);
        CHECK(sgc__eq(slot->entries[0].key, SGC__STR("z")) && slot->entries[0].value == 3);
        CHECK(slot->entries[1].key.len == 0 && slot->entries[1].value == 4);
    }
    sgc_fold_free(f);
}

static void test_a_label_extract_counts_the_values_of_a_label(void)
{
    sgc_extract extract = EXTRACT(.kind = SGC_KIND_LABEL, .by = S("m"));
    sgc_fold *f =
        fold("s:a{m=\"x\"} 1\nother{m=\"no\"} 1\ns_b{m=\"y\"} 1\ns:c{m=\"x\"} 1\ns:d 1\ns:e{m=\"\"} 1\n",
             &extract);
    const sgc_slot *slot = f ? sgc_fold_slot(f, 0) : NULL;

    if (slot) {
        CHECK(slot->kind == SGC_SLOT_MAP && slot->n_entries == 2);
        CHECK(sgc__eq(slot->entries[0].key, SGC__STR("x")) && slot->entries[0].value == 2);
        CHECK(sgc__eq(slot->entries[1].key, SGC__STR("y")) && slot->entries[1].value == 1);
    }
    sgc_fold_free(f);
}

static void test_labels_of_names_that_do_not_count_are_not_those_before(void)
{
    sgc_extract extract = EXTRACT(.kind = SGC_KIND_LABEL, .by = S("m"));
    sgc_fold *f = fold("s:a{m=\"x\"} 1\nother{m=\"z\"} 1\ns:b{m=\"z\"} 1\ns:c{m=\"z\"} 1\n", &extract);
    const sgc_slot *slot = f ? sgc_fold_slot(f, 0) : NULL;

    if (slot) {
        CHECK(slot->kind == SGC_SLOT_MAP && slot->n_entries == 2);
        CHECK(sgc__eq(slot->entries[0].key, SGC__STR("x")) && slot->entries[0].value == 1);
        CHECK(sgc__eq(slot->entries[1].key, SGC__STR("z")) && slot->entries[1].value == 2);
    }
    sgc_fold_free(f);
}

/* ------------------------------------------------------------- histograms */

static const sgc_extract hist_extract = {
    .kind = SGC_KIND_HISTOGRAM, .names = (const sgc_str[]){S("h")}, .n_names = 1};

/* SGLang writes all sums, then all buckets, then all counts; ranks mixed. */
static void test_histograms_add_over_series_in_any_line_order(void)
{
    static const char page[] = "# TYPE s:h histogram\ns:h_sum{x=\"1\"} 1.5\ns:h_sum{x=\"2\"} 2\n"
                               "s:h_bucket{x=\"1\",le=\"1\"} 1\ns:h_bucket{le=\"0.5\",x=\"1\"} "
                               "0\ns:h_bucket{x=\"2\",le=\"+Inf\"} 3\n"
                               "s:h_bucket{x=\"1\",le=\"+Inf\"} 2\ns:h_bucket{x=\"2\",le=\"1.0\"} "
                               "2\ns:h_bucket{x=\"2\",le=\"0.5\"} 1\n"
                               "s:h_count{x=\"1\"} 2\ns:h_count{x=\"2\"} 3\n";
    sgc_fold *f = fold(page, &hist_extract);
    const sgc_slot *slot = f ? sgc_fold_slot(f, 0) : NULL;

    if (slot && slot->kind == SGC_SLOT_HIST) {
        CHECK(slot->hist->n == 3 && slot->hist->count == 5 && slot->hist->sum == 3.5 && slot->n_series == 2);
        CHECK(slot->hist->counts[0] == 1 && slot->hist->counts[1] == 3 && slot->hist->counts[2] == 5);
        CHECK(!slot->bounds_differ);
    } else {
        CHECK(!"a histogram");
    }
    sgc_fold_free(f);
}

static void test_repeated_histograms_count_once(void)
{
    static const char page[] =
        "# TYPE s:h histogram\ns:h_bucket{tp=\"1\",le=\"+Inf\"} 9\ns:h_bucket{tp=\"0\",le=\"+Inf\"} 4\n"
        "s:h_bucket{dp=\"1\",tp=\"3\",le=\"+Inf\"} 1\ns:h_bucket{dp=\"1\",tp=\"2\",le=\"+Inf\"} 2\n";
    sgc_extract extract = EXTRACT(NAMES(S("h")), .kind = SGC_KIND_HISTOGRAM, RANKED);
    sgc_fold *f = fold(page, &extract);
    const sgc_slot *slot = f ? sgc_fold_slot(f, 0) : NULL;

    CHECK(slot && slot->kind == SGC_SLOT_HIST && slot->hist->count == 6 && isnan(slot->hist->sum) &&
          slot->n_series == 2);
    sgc_fold_free(f);
    extract.by = (sgc_str)S("dp");
    f = fold(page, &extract);
    slot = f ? sgc_fold_slot(f, 0) : NULL;
    CHECK(slot && slot->kind == SGC_SLOT_MAP && slot->n_entries == 2 && slot->entries[0].hist->count == 4 &&
          slot->entries[1].hist->count == 2);
    sgc_fold_free(f);
}

static void test_differing_bounds_merge_on_the_common_ones(void)
{
    sgc_fold *f = fold("# TYPE s:h histogram\ns:h_bucket{x=\"1\",le=\"1\"} 1\ns:h_bucket{x=\"1\",le=\"2\"} "
                       "2\ns:h_bucket{x=\"1\",le=\"+Inf\"} 3\n"
                       "s:h_bucket{x=\"2\",le=\"2\"} 10\ns:h_bucket{x=\"2\",le=\"5\"} "
                       "20\ns:h_bucket{x=\"2\",le=\"+Inf\"} 30\n",
                       &hist_extract);
    const sgc_slot *slot = f ? sgc_fold_slot(f, 0) : NULL;

    CHECK(slot && slot->bounds_differ && slot->hist && slot->hist->n == 2 && slot->hist->bounds[0] == 2 &&
          slot->hist->counts[0] == 12 && slot->hist->counts[1] == 33);
    sgc_fold_free(f);
}

static void test_a_summary_gives_count_and_sum(void)
{
    sgc_fold *f =
        fold("# TYPE s:h summary\ns:h{quantile=\"0.5\"} 3\ns:h_sum 10\ns:h_count 4\n", &hist_extract);
    const sgc_slot *slot = f ? sgc_fold_slot(f, 0) : NULL;

    CHECK(slot && slot->hist && slot->hist->n == 1 && slot->hist->count == 4 && slot->hist->sum == 10);
    sgc_fold_free(f);
}

static void test_a_broken_histogram_is_absent_with_its_reason(void)
{
    static const struct {
        const char *lines, *reason;
    } cases[] = {
        {"s:h_bucket{le=\"1\"} 2\ns:h_bucket{le=\"+Inf\"} 1\n", "bucket counts fall"},
        {"s:h_bucket{le=\"1\"} 2\n", "no +Inf bucket"},
        {"s:h_bucket{le=\"+Inf\"} 2\ns:h_count 3\n", "the count differs from the +Inf bucket"},
        {"s:h_bucket{le=\"abc\"} 2\ns:h_bucket{le=\"+Inf\"} 2\n", "le is not a number"},
        {"s:h_bucket 2\n", "le is not a number"},
        {"s:h_bucket{le=\"+Inf\"} NaN\n", "a bucket count is negative or NaN"},
        {"s:h_bucket{le=\"1\"} 1\ns:h_bucket{le=\"1.0\"} 1\ns:h_bucket{le=\"+Inf\"} 1\n",
         "bucket bounds do not rise"},
        {"s:h_sum 2\n", "no +Inf bucket"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char page[256];
        snprintf(page, sizeof page, "# TYPE s:h histogram\n%ss:other 1\n", cases[i].lines);
        sgc_fold *f = fold(page, &hist_extract);
        const sgc_slot *slot = f ? sgc_fold_slot(f, 0) : NULL;
        CHECK_MSG(slot && slot->kind == SGC_SLOT_ABSENT && slot->reason &&
                      !strcmp(slot->reason, cases[i].reason),
                  "%s: %s", cases[i].lines, slot && slot->reason ? slot->reason : "none");
        sgc_fold_free(f);
    }
}

static void test_openmetrics_names_are_those_on_the_lines(void)
{
    sgc_extract extract = EXTRACT(NAMES(S("c_total")));
    sgc_fold *f = fold_format("# TYPE s:c counter\ns:c_total 4\ns:c_created 9\n# EOF\n", &extract,
                              SGC_FORMAT_OPENMETRICS);

    CHECK(f && sgc_fold_slot(f, 0)->value == 4 && sgc_fold_slot(f, 0)->n_series == 1);
    sgc_fold_free(f);
}

static void test_a_fold_refuses_what_a_page_refuses(void)
{
    sgc_extract extract = EXTRACT(NAMES(S("a")));
    sgc_options options;
    sgc_plan *plan;
    sgc_fold *f;
    sgc_error err;
    sgc_str none = S("");

    sgc_options_init(&options);
    CHECK(sgc_plan_new(&none, 1, &plan, &err) == SGC_OK && sgc_plan_add(plan, &extract, &err) == SGC_OK);
    CHECK(sgc_plan_fold(plan, "a 1\nunwanted x\n", 15, &options, &f, &err) == SGC_SYNTAX && !f &&
          err.line == 2);
    options.limits.samples = 1;
    CHECK(sgc_plan_fold(plan, "a 1\nb 1\n", 8, &options, &f, &err) == SGC_LIMIT && !f &&
          !strcmp(err.limit, "samples"));
    sgc_plan_free(plan);
}

static void test_a_plan_names_what_it_cannot_take(void)
{
    sgc_extract no_name = EXTRACT(.kind = SGC_KIND_VALUE), no_label = EXTRACT(.kind = SGC_KIND_LABEL);
    sgc_str many[] = {S("a"), S("b"), S("c"), S("d"), S("e")}, none = S("");
    sgc_extract lowest = EXTRACT(NAMES(S("a")), .lowest = many, .n_lowest = 5);
    sgc_plan *plan;
    sgc_error err;

    CHECK(sgc_plan_new(&none, 1, &plan, &err) == SGC_OK);
    CHECK(sgc_plan_add(plan, &no_name, &err) == SGC_ARGUMENT &&
          sgc_plan_add(plan, &no_label, &err) == SGC_ARGUMENT);
    CHECK(sgc_plan_add(plan, &lowest, &err) == SGC_ARGUMENT && !strcmp(err.excerpt, "e"));
    CHECK(sgc_plan_n_extracts(plan) == 0);
    sgc_plan_free(plan);
}

int main(void)
{
    test_series_become_one_by_sum_max_or_mean();
    test_the_first_name_on_the_page_counts();
    test_series_are_told_apart_by_what_their_labels_say();
    test_conditions_choose_series();
    test_of_repeats_the_lowest_rank_stands();
    test_each_family_has_its_own_series();
    test_a_better_name_takes_its_series_from_nobody();
    test_nan_is_absent_not_zero();
    test_the_type_decides_between_value_and_histogram();
    test_by_gives_a_map_in_page_order();
    test_a_label_extract_counts_the_values_of_a_label();
    test_labels_of_names_that_do_not_count_are_not_those_before();
    test_histograms_add_over_series_in_any_line_order();
    test_repeated_histograms_count_once();
    test_differing_bounds_merge_on_the_common_ones();
    test_a_summary_gives_count_and_sum();
    test_a_broken_histogram_is_absent_with_its_reason();
    test_openmetrics_names_are_those_on_the_lines();
    test_a_fold_refuses_what_a_page_refuses();
    test_a_plan_names_what_it_cannot_take();
    return check_done("test_plan");
}
