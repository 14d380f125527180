/* A page of known lines folds exactly as it does in a cold read. */
#include <math.h>

#include "alloc.h"
#include "dice.h"
#include "fold_same.h"
#include "sgc_int.h"

#define S(text) {(text), sizeof(text) - 1}

enum { PAGE_SIZE = 20000 };

static sgc_plan *plan_make(void)
{
    static const sgc_str prefixes[] = {S("s:"), S("s_")}, ranks[] = {S("pp"), S("tp")};
    static const sgc_str h[] = {S("h")}, g[] = {S("g")}, c[] = {S("c_total"), S("c_old")}, zero[] = {S("0")};
    static const sgc_cond where = {S("dp"), SGC_OP_IS, true, zero, 1};
    static const sgc_extract extracts[] = {
        {.kind = SGC_KIND_HISTOGRAM,
         .names = h,
         .n_names = 1,
         .without = ranks,
         .n_without = 2,
         .lowest = ranks,
         .n_lowest = 2},
        {.kind = SGC_KIND_HISTOGRAM, .names = h, .n_names = 1, .by = S("dp")},
        {.names = g, .n_names = 1, .without = ranks, .n_without = 2, .lowest = ranks, .n_lowest = 2},
        {.names = g, .n_names = 1, .by = S("dp"), .reduce = SGC_REDUCE_MAX},
        {.names = g, .n_names = 1, .where = &where, .n_where = 1, .reduce = SGC_REDUCE_MEAN},
        {.names = c, .n_names = 2},
        {.kind = SGC_KIND_LABEL, .by = S("tp")},
    };
    sgc_plan *plan = NULL;

    if (sgc_plan_new(prefixes, 2, &plan, NULL) == SGC_OK)
        for (size_t i = 0; i < sizeof extracts / sizeof *extracts; i++)
            if (sgc_plan_add(plan, &extracts[i], NULL) != SGC_OK) {
                sgc_plan_free(plan);
                return NULL;
            }
    return plan;
}

static const char *number_text(char *room)
{
    switch (pick(5)) {
    case 0:
        return CHOOSE("NaN", "+Inf", "0.0", "1e3", "-4", "12345678.0", "1234567.0", "123456789012345678");
    case 1:
        sprintf(room, "%u.%u", pick(100000), pick(1000));
        return room;
    default:
        sprintf(room, "%u.0", pick(3) ? pick(30) : pick(90000000));
        return room;
    }
}

/* The lines are told by `seed`, the values are not. */
static size_t page_make(char *page, uint64_t seed)
{
    uint64_t after, values = dice_state;
    char room[32];
    size_t used = 0;
    int series;

    dice_state = seed | 1;
    used += (size_t)sprintf(page, "# HELP s:h text\n# TYPE s:h histogram\n");
    series = 1 + (int)pick(4);
    for (int i = 0; i < series; i++) {
        unsigned dp = pick(3), tp = pick(12), shuffled = pick(4) == 0, lie = pick(5) == 0;
        unsigned count = 0;
        for (int b = 0; b < 4; b++) {
            static const char *const bounds[] = {"0.1", "1.0", "10.0", "+Inf"};
            after = dice_state, dice_state = values;
            count += pick(50);
            values = dice_state, dice_state = after;
            used += (size_t)sprintf(page + used, "s:h_bucket{dp=\"%u\",le=\"%s\",tp=\"%u\"} %u.0\n", dp,
                                    bounds[shuffled ? 3 - b : b], tp, shuffled ? 0 : count);
        }
        used += (size_t)sprintf(page + used,
                                "s:h_sum{dp=\"%u\",tp=\"%u\"} %u.5\ns:h_count{dp=\"%u\",tp=\"%u\"} %u\n", dp,
                                tp, count, dp, tp, shuffled ? 0 : count + lie);
    }
    series = (int)pick(6);
    for (int i = 0; i < series; i++) {
        const char *head = CHOOSE("s:g{dp=\"0\",tp=\"0\"} ", "s:g{dp=\"0\",tp=\"1\"} ",
                                  "s:g{dp=\"1\",tp=\"3\"} ", "s:g ", "s:c_total ", "s:c_total{x=\"q\\\"\"} ",
                                  "s:c_old ", "s_c_total ", "# comment\nother ", "\ns:unwanted{tp=\"7\"} ");
        after = dice_state, dice_state = values;
        used += (size_t)sprintf(page + used, "%s%s\n", head, number_text(room));
        values = dice_state, dice_state = after;
    }
    used +=
        (size_t)sprintf(page + used, "%s", CHOOSE("", "", "# the end", "s:g 4 1395066363000\n", "s:last 5"));
    dice_state = values;
    return used;
}

static unsigned long hits, misses, known;

/* The lines with one of them gone, twice, or at another place. */
static size_t lines_change(char *page, size_t len)
{
    static char line[PAGE_SIZE];
    size_t at = pick((unsigned)len), to = pick((unsigned)len), n;
    unsigned choice = pick(3);

    while (at && page[at - 1] != '\n')
        at--;
    n = memchr(page + at, '\n', len - at)
            ? (size_t)((char *)memchr(page + at, '\n', len - at) + 1 - page) - at
            : 0;
    memcpy(line, page + at, n);
    if (choice) {
        memmove(page + at, page + at + n, len - at - n);
        len -= n;
    }
    if (choice == 1 || len + n > PAGE_SIZE)
        return len;
    to = to < len ? to : len;
    while (to && page[to - 1] != '\n')
        to--;
    memmove(page + to + n, page + to, len - to);
    memcpy(page + to, line, n);
    return len + n;
}

static void page_check(sgc_plan *plan, sgc_steady *steady, const char *page, size_t len)
{
    sgc_options options;
    sgc_fold *cold, *warm;
    sgc_error cold_err = {.code = SGC_OK}, warm_err = {.code = SGC_OK};
    sgc_status cold_status, warm_status;

    sgc_options_init(&options);
    cold_status = sgc_plan_fold(plan, page, len, &options, &cold, &cold_err);
    warm_status = sgc_steady_fold(steady, page, len, &options, &warm, &warm_err);
    CHECK_MSG(cold_status == warm_status, "%.*s", (int)len, page);
    if (cold && warm)
        CHECK_MSG(fold_same(cold, warm), "%s%.*s", sgc_steady_hit(steady) ? "(hit)\n" : "(miss)\n", (int)len,
                  page);
    else
        CHECK_MSG(cold_err.reason == warm_err.reason && cold_err.line == warm_err.line &&
                      cold_err.column == warm_err.column,
                  "%.*s", (int)len, page);
    *(sgc_steady_hit(steady) ? &hits : &misses) += 1;
    known += sgc_steady_hit(steady) ? 0 : sgc_steady_n_known(steady);
    sgc_fold_free(cold);
    sgc_fold_free(warm);
}

static void test_known_lines_fold_as_in_a_cold_read(sgc_plan *plan)
{
    static char page[PAGE_SIZE];

    for (uint64_t seed = 1; seed < 3000 && check_failed < 3; seed++) {
        sgc_steady *steady;
        CHECK(sgc_steady_new(plan, &steady, NULL) == SGC_OK);
        for (int i = 0; i < 8; i++) {
            size_t len = page_make(page, pick(8) ? seed * 7919 : seed * 104729);
            for (unsigned n = pick(3) ? 0 : pick(4); n--;)
                len = lines_change(page, len);
            if (pick(6) == 0) /* anything may happen to a page */
                page[pick((unsigned)len)] = (char)pick(256);
            if (pick(12) == 0)
                len = pick((unsigned)len);
            page_check(plan, steady, page, len);
        }
        sgc_steady_free(steady);
    }
    CHECK(hits > 3000 && misses > 5000 && known > 5000);
}

static bool hit_after(sgc_plan *plan, const char *first, const char *second, sgc_format format,
                      uint64_t number_length)
{
    sgc_options options;
    sgc_steady *steady;
    sgc_fold *fold;
    bool hit;

    sgc_options_init(&options);
    options.format = format;
    options.limits.number_length = number_length;
    CHECK(sgc_steady_new(plan, &steady, NULL) == SGC_OK);
    CHECK(sgc_steady_fold(steady, first, strlen(first), &options, &fold, NULL) == SGC_OK &&
          !sgc_steady_hit(steady));
    sgc_fold_free(fold);
    sgc_steady_fold(steady, second, strlen(second), &options, &fold, NULL);
    hit = sgc_steady_hit(steady);
    sgc_fold_free(fold);
    sgc_steady_free(steady);
    return hit;
}

static void test_only_values_may_differ_on_a_known_page(sgc_plan *plan)
{
    CHECK(hit_after(plan, "s:g 1\ns:x 2\n", "s:g 12345.5\ns:x NaN\n", SGC_FORMAT_TEXT, 1024));
    CHECK(hit_after(plan, "", "", SGC_FORMAT_TEXT, 1024));
    CHECK(hit_after(plan, "# EOF\n", "# EOF\n", SGC_FORMAT_OPENMETRICS, 1024));
    CHECK(hit_after(plan, "s:g 1\n# EOF", "s:g 2\n# EOF", SGC_FORMAT_AUTO, 1024));
    CHECK(!hit_after(plan, "s:g 1\n# EOF", "s:g nan\n# EOF", SGC_FORMAT_AUTO, 1024));
    CHECK(!hit_after(plan, "s:g 1\n", "s:g 12345\n", SGC_FORMAT_TEXT, 4));
    CHECK(!hit_after(plan, "s:g 1\n", "s:g 1", SGC_FORMAT_TEXT, 1024));
    CHECK(!hit_after(plan, "s:g 1\n", "s:g 1\ns:h 1\n", SGC_FORMAT_TEXT, 1024));
    CHECK(!hit_after(plan, "s:g 1 5\n", "s:g 1 5\n", SGC_FORMAT_TEXT, 1024));
    CHECK(!hit_after(plan, "s:g 1\n", "s:g 1 5\n", SGC_FORMAT_TEXT, 1024));
    CHECK(!hit_after(plan, "s:g 1\n", "s:g x\n", SGC_FORMAT_TEXT, 1024));
}

/* How many samples of the second page are not read again. */
static unsigned known_after(sgc_plan *plan, const char *first, const char *second, sgc_format format)
{
    sgc_options options;
    sgc_steady *older, *steady;
    sgc_fold *fold, *cold, *warm = NULL;
    unsigned n;

    sgc_options_init(&options);
    options.format = format;
    CHECK(sgc_steady_new(plan, &older, NULL) == SGC_OK && sgc_steady_new(plan, &steady, NULL) == SGC_OK);
    CHECK(sgc_steady_fold(older, first, strlen(first), &options, &fold, NULL) == SGC_OK);
    CHECK(sgc_steady_learn(steady, older, second, strlen(second), &options, &warm, NULL) == SGC_OK);
    CHECK(sgc_plan_fold(plan, second, strlen(second), &options, &cold, NULL) == SGC_OK);
    CHECK(warm && fold_same(cold, warm) && !sgc_steady_hit(steady));
    n = (unsigned)sgc_steady_n_known(steady);
    sgc_fold_free(fold);
    sgc_fold_free(cold);
    sgc_fold_free(warm);
    sgc_steady_free(older);
    sgc_steady_free(steady);
    return n;
}

static void test_lines_that_are_known_count_for_the_limit_too(sgc_plan *plan)
{
    enum { LIMIT = 200 };
    char page[30 * LIMIT];
    size_t new = (size_t)sprintf(page, "s:new 1\n"), len = new;
    sgc_options options;
    sgc_steady *older, *steady;
    sgc_fold *fold;

    for (int i = 0; i < LIMIT; i++)
        len += (size_t)sprintf(page + len, "s:x{n=\"%d\"} 1\n", i);
    sgc_options_init(&options);
    options.limits.samples = LIMIT;
    CHECK(sgc_steady_new(plan, &older, NULL) == SGC_OK && sgc_steady_new(plan, &steady, NULL) == SGC_OK);
    CHECK(sgc_steady_fold(older, page + new, len - new, &options, &fold, NULL) == SGC_OK);
    sgc_fold_free(fold);
    CHECK(sgc_steady_learn(steady, older, page, len, &options, &fold, NULL) == SGC_LIMIT && !fold);
    sgc_steady_free(older);
    sgc_steady_free(steady);
}

#define TYPED "# TYPE s:g gauge\n"
#define A "s:g{dp=\"0\",tp=\"0\"} 1\n"
#define B "s:g{dp=\"0\",tp=\"1\"} 2\n"
#define C "s:g{dp=\"1\",tp=\"0\"} 3\n"
#define D "s:g{dp=\"1\",tp=\"1\"} 4\n"
#define BUCKETS "s:h_bucket{le=\"1\"} 1\ns:h_bucket{le=\"+Inf\"} 2\ns:h_count 2\n"

static void test_lines_that_are_known_are_not_read_again(sgc_plan *plan)
{
    CHECK(known_after(plan, TYPED A B C D, TYPED A B C D, SGC_FORMAT_TEXT) == 4);
    CHECK(known_after(plan, TYPED A B C, TYPED A B D C, SGC_FORMAT_TEXT) == 3);   /* one more */
    CHECK(known_after(plan, TYPED A B C D, TYPED A D, SGC_FORMAT_TEXT) == 2);     /* two less */
    CHECK(known_after(plan, TYPED A B C D, TYPED A D C B, SGC_FORMAT_TEXT) == 2); /* another order */
    CHECK(known_after(plan, TYPED A B, TYPED A "s:g{dp=\"0\",tp=\"1\"} 2 5\n", SGC_FORMAT_TEXT) == 1);
    CHECK(known_after(plan, TYPED A B, TYPED A "# HELP s:g x\n\n" B, SGC_FORMAT_TEXT) == 2);
    CHECK(known_after(plan, TYPED A B "# EOF\n", TYPED B A "# EOF\n", SGC_FORMAT_OPENMETRICS) == 1);
    CHECK(known_after(plan, TYPED A B "# EOF", TYPED A B "# EOF \n", SGC_FORMAT_AUTO) == 0);
}

static void test_a_line_is_known_in_its_family_alone(sgc_plan *plan)
{
    CHECK(known_after(plan, "# TYPE s:h histogram\n" BUCKETS, "# TYPE s:h histogram\n" BUCKETS,
                      SGC_FORMAT_TEXT) == 3);
    CHECK(known_after(plan, "# TYPE s:h histogram\n" BUCKETS, "# TYPE s:h gauge\n" BUCKETS,
                      SGC_FORMAT_TEXT) == 0);
    CHECK(known_after(plan, "# TYPE s:h histogram\n" BUCKETS, BUCKETS, SGC_FORMAT_TEXT) == 0);
    CHECK(known_after(plan, BUCKETS, "# TYPE s:h histogram\n" BUCKETS, SGC_FORMAT_TEXT) == 0);
    /* a worse name counts where the better one is gone */
    CHECK(known_after(plan, "s:c_total 1\ns:c_old 2\n", "s:c_old 3\n", SGC_FORMAT_TEXT) == 0);
}

static sgc_plan *shared_plan;

static bool folds_twice(void)
{
    static char first[PAGE_SIZE], second[PAGE_SIZE];
    size_t n = page_make(first, 5), m = page_make(second, 5);
    sgc_options options;
    sgc_steady *steady;
    sgc_fold *fold = NULL, *again = NULL, *changed = NULL;
    sgc_error err;
    sgc_status status = sgc_steady_new(shared_plan, &steady, &err);

    sgc_options_init(&options);
    if (status == SGC_OK)
        status = sgc_steady_fold(steady, first, n, &options, &fold, &err);
    if (status == SGC_OK)
        status = sgc_steady_fold(steady, second, m, &options, &again, &err);
    if (status == SGC_OK) /* without its first line */
        status = sgc_steady_fold(steady, strchr(second, '\n') + 1,
                                 m - 1 - (size_t)(strchr(second, '\n') - second), &options, &changed, &err);
    CHECK(status == SGC_OK || (status == SGC_NOMEM && err.code == SGC_NOMEM && !changed));
    sgc_fold_free(changed);
    sgc_fold_free(fold);
    sgc_fold_free(again);
    sgc_steady_free(steady);
    return status == SGC_OK;
}

int main(void)
{
    alloc_install();
    shared_plan = plan_make();
    if (!shared_plan)
        return 1;
    test_known_lines_fold_as_in_a_cold_read(shared_plan);
    test_only_values_may_differ_on_a_known_page(shared_plan);
    test_lines_that_are_known_count_for_the_limit_too(shared_plan);
    test_lines_that_are_known_are_not_read_again(shared_plan);
    test_a_line_is_known_in_its_family_alone(shared_plan);
    printf("test_steady: %ld failing allocations\n", alloc_sweep("two pages", folds_twice));
    sgc_plan_free(shared_plan);
    CHECK(atomic_load(&alloc_live) == 0);
    return check_done("test_steady");
}
