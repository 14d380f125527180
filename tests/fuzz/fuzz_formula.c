/*
 * A formula's number is what a slow, recursive reading of its steps gives, from
 * the last one down; and steps that leave no one number are no formula. The
 * input's first line is the formula, two bytes a step ("P0": the number of the
 * first slot), and the rest the page.
 */
#include "wanted.h"

#define S(text) {(text), sizeof(text) - 1}

enum { MOST_STEPS = 48, MOST_WAITING = 16 };

static const sgc_str texts[] = {S(""),    S("0"), S("1"), S("12"), S("500"), S("Llama-3.1-8B"),
                                S("0.1"), S("f")};
static const double constants[] = {0, 1, -2.5, 0.1, 1e308, -0.0, INFINITY, NAN};

/* ---------------------------------------------------------------- the steps */

static sgc_step step_read(const uint8_t *two)
{
    size_t n_kinds = 0, argument = two[1] >= '0' ? two[1] - (size_t)'0' : 100 + two[1];

    while (sgc_step_words()[n_kinds])
        n_kinds++;
    return (sgc_step){.kind = (sgc_step_kind)(two[0] % n_kinds),
                      .slot = argument % (wanted_n_extracts + 1),
                      .text = texts[argument / 4 % 8],
                      .number = constants[argument % 8],
                      .n = argument % 16 == 15 ? SIZE_MAX : argument % 16};
}

/* How many numbers the step takes from those before it. */
static size_t taken(const sgc_step *step)
{
    if (sgc_step_takes(step->kind) == SGC_TAKES_COUNT)
        return step->n;
    if (step->kind == SGC_STEP_CHOOSE)
        return 3;
    return step->kind == SGC_STEP_RATIO || step->kind == SGC_STEP_TIMES ? 2 : 0;
}

/* The first step of those that end with step `last` and make its number; -1: there are too few. */
static long first_of(const sgc_step *steps, long last)
{
    size_t n = last < 0 ? 0 : taken(&steps[last]);
    long at = last;

    if (last < 0 || n > (size_t)last || (!n && sgc_step_takes(steps[last].kind) == SGC_TAKES_COUNT))
        return -1;
    for (; n && at >= 0; n--)
        at = first_of(steps, at - 1);
    return at;
}

/* The most numbers that wait at once: those of the steps before each. */
static size_t most_waiting(const sgc_step *steps, size_t n)
{
    size_t waiting = 0, most = 0;

    for (size_t i = 0; i < n; i++) {
        waiting = waiting - taken(&steps[i]) + 1;
        most = waiting > most ? waiting : most;
    }
    return most;
}

static bool is_formula(const sgc_step *steps, size_t n)
{
    return n && first_of(steps, (long)n - 1) == 0 && most_waiting(steps, n) <= MOST_WAITING;
}

/* --------------------------------------------------------------- its number */

static const sgc_number none = {false, 0};

static sgc_number some(double value)
{
    return (sgc_number){true, value};
}

static bool ends_with(sgc_str text, sgc_str end)
{
    return text.len >= end.len && memcmp(text.ptr + (text.len - end.len), end.ptr, end.len) == 0;
}

/* Of the map's entries whose key ends so the sum; of the one whose key is so, itself. */
static sgc_number entries_of(const sgc_slot *slot, sgc_str text, bool whole)
{
    double sum = 0;

    if (slot->reason)
        return none;
    for (size_t i = 0; i < slot->n_entries; i++) {
        const sgc_entry *entry = &slot->entries[i];
        if (!ends_with(entry->key, text))
            continue;
        sum += entry->value;
        if (whole && entry->key.len == text.len)
            return some(entry->value);
    }
    return some(whole ? 0 : sum);
}

static sgc_number largest(const sgc_slot *slot)
{
    sgc_number result = none;
    char text[10];

    for (size_t i = 0; i < slot->n_entries; i++) {
        sgc_str key = slot->entries[i].key;
        if (!key.len || key.len > 9)
            continue;
        memcpy(text, key.ptr, key.len);
        text[key.len] = '\0';
        if (strspn(text, "0123456789") == key.len && (!result.there || atof(text) > result.value))
            result = some(atof(text));
    }
    return result;
}

static bool is_named(const sgc_slot *slot)
{
    bool named = false;

    for (size_t i = 0; i < slot->n_entries; i++)
        named |= slot->entries[i].key.len != 0;
    return named;
}

static sgc_number mean(const sgc_hist *hist)
{
    return hist->count > 0 && !isnan(hist->sum) ? some(hist->sum / hist->count) : none;
}

static sgc_number slot_number(const sgc_step *step, const sgc_slot *slot)
{
    bool hist = slot && slot->kind == SGC_SLOT_HIST;

    switch (step->kind) {
    case SGC_STEP_NUMBER:
        return slot && slot->kind == SGC_SLOT_VALUE ? some(slot->value) : none;
    case SGC_STEP_COUNT:
        return hist ? some(slot->hist->count) : none;
    case SGC_STEP_MEAN:
        return hist ? mean(slot->hist) : none;
    case SGC_STEP_SEEN:
        return some(slot && slot->n_series ? 1 : 0);
    case SGC_STEP_NAMED:
        return some(slot && is_named(slot) ? 1 : 0);
    case SGC_STEP_TOTAL:
    case SGC_STEP_ENTRY:
        return slot ? entries_of(slot, step->text, step->kind == SGC_STEP_ENTRY) : some(0);
    case SGC_STEP_LARGEST_KEY:
        return slot ? largest(slot) : none;
    default:
        return step->kind == SGC_STEP_CONSTANT ? some(step->number) : none;
    }
}

static sgc_number number_of(const sgc_step *steps, long last, const sgc_fold *fold);

/* Of the n numbers before `last`, made in their order. */
static sgc_number several(const sgc_step *steps, long last, const sgc_fold *fold)
{
    const sgc_step *step = &steps[last];
    size_t n = taken(step), there = 0;
    long ends[MOST_STEPS];
    sgc_number of[MOST_STEPS], first = none, sum = none;

    for (long at = last, i = (long)n - 1; i >= 0; at = first_of(steps, ends[i--]))
        ends[i] = at - 1;
    for (size_t i = 0; i < n; i++) {
        of[i] = number_of(steps, ends[i], fold);
        first = first.there ? first : of[i];
        sum = of[i].there ? some(sum.value + of[i].value) : sum;
        there += of[i].there;
    }
    switch (step->kind) {
    case SGC_STEP_FIRST:
        return first;
    case SGC_STEP_SUM:
        return sum;
    case SGC_STEP_PLUS:
        return there == n ? sum : none;
    case SGC_STEP_RATIO:
        return there == 2 && of[1].value != 0 ? some(of[0].value / of[1].value) : none;
    case SGC_STEP_TIMES:
        return there == 2 ? some(of[0].value * of[1].value) : none;
    default:
        return of[0].there && of[0].value != 0 ? of[1] : of[2];
    }
}

static sgc_number number_of(const sgc_step *steps, long last, const sgc_fold *fold)
{
    const sgc_step *step = &steps[last];

    if (taken(step))
        return several(steps, last, fold);
    return slot_number(step, step->slot < sgc_fold_n_slots(fold) ? sgc_fold_slot(fold, step->slot) : NULL);
}

/* --------------------------------------------------------------- properties */

static bool same_number(sgc_number a, sgc_number b)
{
    bool nans = isnan(a.value) && isnan(b.value);

    return a.there == b.there && (nans || memcmp(&a.value, &b.value, sizeof a.value) == 0);
}

static void formula_check(const sgc_step *steps, size_t n, const sgc_fold *fold)
{
    sgc_error err = {.code = SGC_OK};
    sgc_formula *formula;
    bool good = is_formula(steps, n);

    MUST((sgc_formula_new(steps, n, &formula, &err) == SGC_OK) == good && (formula != NULL) == good);
    MUST(good || err.code == SGC_ARGUMENT);
    if (formula)
        MUST(same_number(sgc_formula_value(formula, fold), number_of(steps, (long)n - 1, fold)));
    sgc_formula_free(formula);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *stop = size ? memchr(data, '\n', size) : NULL;
    size_t line = stop ? (size_t)(stop - data) : size, n = line / 2, used = stop ? line + 1 : line;
    const char *page = fuzz_input(data + used, size - used);
    sgc_step steps[MOST_STEPS];
    sgc_options options;
    sgc_fold *fold;

    if (!page || n > MOST_STEPS)
        return 0;
    fuzz_options(&options, FUZZ_TEXT);
    if (sgc_plan_fold(wanted_plan(), page, size - used, &options, &fold, NULL) != SGC_OK)
        return 0;
    for (size_t i = 0; i < n; i++)
        steps[i] = step_read(data + 2 * i);
    /* The whole, and its beginnings, most of which are none. */
    for (size_t i = 0; i <= n; i++)
        formula_check(steps, i, fold);
    sgc_fold_free(fold);
    return 0;
}
