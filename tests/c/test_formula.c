/* Formulas: what each step leaves, and what it makes of what is absent. */
#include <math.h>

#include "alloc.h"
#include "sgc_int.h"

#define S(text) {(text), sizeof(text) - 1}

/* Slots: a value, a negative one, nothing, a histogram, a map, an empty histogram. */
enum { A, B, NONE, HIST, MAP, EMPTY, N_SLOTS };

static const char page[] =
    "a 6\nb -4\n"
    "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 4\nh_sum 10\nh_count 4\n"
    "m{k=\"12_hit\"} 1\nm{k=\"7\"} 2\nm{k=\"30\"} 4\nm{k=\"1234567890\"} 8\nm 16\n"
    "# TYPE e histogram\ne_bucket{le=\"+Inf\"} 0\ne_sum 0\ne_count 0\n";

static sgc_fold *fold(void)
{
    static const sgc_str names[] = {S("a"), S("b"), S("none"), S("h"), S("m"), S("e")}, prefix = S("");
    sgc_options options;
    sgc_plan *plan;
    sgc_fold *made = NULL;

    sgc_options_init(&options);
    CHECK(sgc_plan_new(&prefix, 1, &plan, NULL) == SGC_OK);
    for (size_t i = 0; i < N_SLOTS; i++) {
        sgc_extract extract = {.names = &names[i], .n_names = 1};
        if (i == HIST || i == EMPTY)
            extract.kind = SGC_KIND_HISTOGRAM;
        if (i == MAP)
            extract.by = (sgc_str)S("k");
        CHECK(sgc_plan_add(plan, &extract, NULL) == SGC_OK);
    }
    CHECK(sgc_plan_fold(plan, page, sizeof page - 1, &options, &made, NULL) == SGC_OK);
    sgc_plan_free(plan);
    return made;
}

/* The number that the steps leave; NaN where it is absent. */
static double value(const sgc_step *steps, size_t n)
{
    static sgc_fold *kept;
    sgc_formula *formula;
    sgc_error err;
    sgc_number number = {false, 0};

    if (!steps) {
        sgc_fold_free(kept);
        return NAN;
    }
    if (!kept)
        kept = fold();
    CHECK_MSG(sgc_formula_new(steps, n, &formula, &err) == SGC_OK, "%s", err.reason);
    number = sgc_formula_value(formula, kept);
    sgc_formula_free(formula);
    CHECK(number.there || number.value == 0);
    return number.there ? number.value : NAN;
}

#define STEP(word, ...) {.kind = SGC_STEP_##word, .text = S(""), __VA_ARGS__}
#define OF(word, at) STEP(word, .slot = (at))
#define TEXT(word, at, literal) {.kind = SGC_STEP_##word, .slot = (at), .text = S(literal)}
#define MANY(word, count) STEP(word, .n = (count))
#define CONSTANT(x) STEP(CONSTANT, .number = (x))
#define VALUE(...) \
    value((const sgc_step[]){__VA_ARGS__}, sizeof((const sgc_step[]){__VA_ARGS__}) / sizeof(sgc_step))
#define NUMBER_A OF(NUMBER, A)
#define NUMBER_B OF(NUMBER, B)
#define ABSENT STEP(NOTHING, .n = 0)

static void a_step_reads_a_slot(void)
{
    CHECK(VALUE(NUMBER_A) == 6 && isnan(VALUE(OF(NUMBER, NONE))) && isnan(VALUE(OF(NUMBER, HIST))));
    CHECK(VALUE(OF(COUNT, HIST)) == 4 && VALUE(OF(COUNT, EMPTY)) == 0 && isnan(VALUE(OF(COUNT, A))));
    CHECK(VALUE(OF(MEAN, HIST)) == 2.5 && isnan(VALUE(OF(MEAN, EMPTY))) && isnan(VALUE(OF(MEAN, NONE))));
    CHECK(VALUE(OF(SEEN, A)) == 1 && VALUE(OF(SEEN, NONE)) == 0);
    CHECK(VALUE(CONSTANT(0.5)) == 0.5 && isnan(VALUE(ABSENT)));
    CHECK(isnan(VALUE(OF(NUMBER, N_SLOTS))) && VALUE(OF(SEEN, N_SLOTS)) == 0);
}

static void a_step_reads_a_map(void)
{
    CHECK(VALUE(OF(NAMED, MAP)) == 1 && VALUE(OF(NAMED, NONE)) == 0 && VALUE(OF(NAMED, A)) == 0);
    CHECK(VALUE(TEXT(TOTAL, MAP, "")) == 31 && VALUE(TEXT(TOTAL, MAP, "_hit")) == 1);
    CHECK(VALUE(TEXT(TOTAL, NONE, "")) == 0);
    CHECK(VALUE(TEXT(ENTRY, MAP, "7")) == 2 && VALUE(TEXT(ENTRY, MAP, "8")) == 0);
    CHECK(VALUE(OF(LARGEST_KEY, MAP)) == 30 && isnan(VALUE(OF(LARGEST_KEY, NONE))));
}

static void a_step_combines_the_numbers_before_it(void)
{
    CHECK(VALUE(ABSENT, NUMBER_A, NUMBER_B, MANY(FIRST, 3)) == 6 && isnan(VALUE(ABSENT, MANY(FIRST, 1))));
    CHECK(VALUE(NUMBER_A, NUMBER_B, MANY(PLUS, 2)) == 2 && isnan(VALUE(NUMBER_A, ABSENT, MANY(PLUS, 2))));
    CHECK(VALUE(NUMBER_A, ABSENT, NUMBER_B, MANY(SUM, 3)) == 2 && isnan(VALUE(ABSENT, MANY(SUM, 1))));
    CHECK(VALUE(NUMBER_A, NUMBER_B, STEP(RATIO, .n = 0)) == -1.5);
    CHECK(isnan(VALUE(NUMBER_A, CONSTANT(0), STEP(RATIO, .n = 0))));
    CHECK(isnan(VALUE(NUMBER_A, ABSENT, STEP(RATIO, .n = 0))));
    CHECK(isnan(VALUE(ABSENT, NUMBER_A, STEP(RATIO, .n = 0))));
    CHECK(VALUE(NUMBER_A, NUMBER_B, STEP(TIMES, .n = 0)) == -24);
    CHECK(isnan(VALUE(ABSENT, NUMBER_A, STEP(TIMES, .n = 0))));
    CHECK(VALUE(CONSTANT(1), NUMBER_A, NUMBER_B, STEP(CHOOSE, .n = 0)) == 6);
    CHECK(VALUE(CONSTANT(0), NUMBER_A, NUMBER_B, STEP(CHOOSE, .n = 0)) == -4);
    CHECK(VALUE(ABSENT, NUMBER_A, NUMBER_B, STEP(CHOOSE, .n = 0)) == -4);
}

static bool refused(const sgc_step *steps, size_t n)
{
    sgc_formula *formula;
    sgc_error err;

    return sgc_formula_new(steps, n, &formula, &err) == SGC_ARGUMENT && !formula && err.reason;
}

#define REFUSED(...) \
    refused((const sgc_step[]){__VA_ARGS__}, sizeof((const sgc_step[]){__VA_ARGS__}) / sizeof(sgc_step))

static void steps_that_leave_no_one_number_are_refused(void)
{
    sgc_step many[40];

    CHECK(refused(NULL, 0) && REFUSED(NUMBER_A, NUMBER_B) && REFUSED(STEP(RATIO, .n = 0)));
    CHECK(REFUSED(NUMBER_A, STEP(TIMES, .n = 0)) && REFUSED(NUMBER_A, NUMBER_B, STEP(CHOOSE, .n = 0)));
    CHECK(REFUSED(MANY(FIRST, 0)) && REFUSED(NUMBER_A, MANY(SUM, SIZE_MAX)) &&
          REFUSED(NUMBER_A, MANY(PLUS, 2)));
    for (size_t i = 0; i < 40; i++)
        many[i] = (sgc_step)CONSTANT(1);
    many[16] = (sgc_step)MANY(SUM, 16);
    CHECK(value(many, 17) == 16);
    many[16] = (sgc_step)CONSTANT(1);
    many[17] = (sgc_step)MANY(SUM, 17);
    CHECK(refused(many, 18));
}

static bool formula_is_made(void)
{
    static const sgc_step steps[] = {TEXT(TOTAL, MAP, "_hit"), TEXT(ENTRY, MAP, "7"), MANY(SUM, 2)};
    sgc_formula *formula;
    sgc_status status = sgc_formula_new(steps, 3, &formula, NULL);

    CHECK((status == SGC_OK) == (formula != NULL));
    sgc_formula_free(formula);
    return status == SGC_OK;
}

int main(void)
{
    alloc_install();
    a_step_reads_a_slot();
    a_step_reads_a_map();
    a_step_combines_the_numbers_before_it();
    steps_that_leave_no_one_number_are_refused();
    CHECK(alloc_sweep("a formula", formula_is_made) > 0);
    value(NULL, 0);
    CHECK(atomic_load(&alloc_live) == 0);
    return check_done("test_formula");
}
