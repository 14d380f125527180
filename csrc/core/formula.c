/*
 * formula.c - numbers made of the slots of a fold, by a few steps.
 *
 * No step fails: what has no source is absent, and each says what it makes of
 * that. Steps are few and slots near, so there is nothing to compile.
 */
#include "sgc_int.h"

struct sgc_formula {
    sgc__arena arena; /* of the texts */
    size_t n;
    sgc_step steps[];
};

enum { DEPTH = 16 }; /* operands that wait at once */

static const char *const words[] = {
#define SGC__STEP_WORD(name, word, takes) word,
    SGC_STEP_LIST(SGC__STEP_WORD) NULL
#undef SGC__STEP_WORD
};

const char *const *sgc_step_words(void)
{
    return words;
}

sgc_takes sgc_step_takes(sgc_step_kind kind)
{
    static const sgc_takes takes[] = {
#define SGC__STEP_TAKES(name, word, takes) SGC_TAKES_##takes,
        SGC_STEP_LIST(SGC__STEP_TAKES)
#undef SGC__STEP_TAKES
    };
    return takes[kind];
}

/* ---------------------------------------------------------- making of it */

/* How many operands a step takes off the stack. */
static size_t n_operands(const sgc_step *step)
{
    switch (step->kind) {
    case SGC_STEP_RATIO:
    case SGC_STEP_TIMES:
        return 2;
    case SGC_STEP_CHOOSE:
        return 3;
    case SGC_STEP_FIRST:
    case SGC_STEP_PLUS:
    case SGC_STEP_SUM:
        return step->n;
    default:
        return 0;
    }
}

/* Every step finds its operands, and one number is left. */
static bool is_whole(const sgc_step *steps, size_t n)
{
    size_t depth = 0;

    for (size_t i = 0; i < n; i++) {
        size_t taken = n_operands(&steps[i]);
        if (taken > depth || (sgc_step_takes(steps[i].kind) == SGC_TAKES_COUNT && !taken))
            return false;
        depth += 1 - taken;
        if (depth > DEPTH)
            return false;
    }
    return depth == 1;
}

sgc_status sgc_formula_new(const sgc_step *steps, size_t n, sgc_formula **formula, sgc_error *err)
{
    sgc_formula *made;

    *formula = NULL;
    if (!is_whole(steps, n))
        return sgc__fail_argument(err, "the steps of a formula leave no one number", (sgc_str){NULL, 0});
    made = sgc__alloc(1, sizeof *made + n * sizeof *steps);
    if (!made)
        return sgc__fail_memory(err);
    sgc__arena_init(&made->arena);
    made->n = n;
    for (size_t i = 0; i < n; i++) {
        made->steps[i] = steps[i];
        made->steps[i].text = sgc__arena_copy(&made->arena, steps[i].text);
        if (!made->steps[i].text.ptr) {
            sgc_formula_free(made);
            return sgc__fail_memory(err);
        }
    }
    *formula = made;
    return SGC_OK;
}

void sgc_formula_free(sgc_formula *formula)
{
    if (!formula)
        return;
    sgc__arena_free(&formula->arena);
    sgc__release(formula);
}

/* --------------------------------------------------------------- operands */

static const sgc_number absent = {false, 0};

static sgc_number there(double value)
{
    return (sgc_number){true, value};
}

static sgc_number mean_of(const sgc_slot *slot)
{
    double mean = slot->kind == SGC_SLOT_HIST ? sgc_hist_mean(slot->hist) : NAN;
    return isnan(mean) ? absent : there(mean);
}

/* Does the map have a key that is not empty? */
static bool has_key(const sgc_slot *slot)
{
    for (size_t i = 0; i < slot->n_entries; i++)
        if (slot->entries[i].key.len)
            return true;
    return false;
}

/* What is told of entries whose key ends with the text. Absent, as a single
 * entry, where any is: a part would pass for the whole. */
static sgc_number total(const sgc_slot *slot, sgc_str end)
{
    double sum = 0;
    if (slot->reason)
        return absent;
    for (size_t i = 0; i < slot->n_entries; i++)
        if (sgc__ends(slot->entries[i].key, end))
            sum += slot->entries[i].value;
    return there(sum);
}

static sgc_number entry_of(const sgc_slot *slot, sgc_str key)
{
    if (slot->reason)
        return absent;
    for (size_t i = 0; i < slot->n_entries; i++)
        if (sgc__eq(slot->entries[i].key, key))
            return there(slot->entries[i].value);
    return there(0);
}

/* The largest key that is a number of at most nine digits. */
static sgc_number largest_key(const sgc_slot *slot)
{
    sgc_number largest = absent;
    for (size_t i = 0; i < slot->n_entries; i++) {
        sgc_str key = slot->entries[i].key;
        double number = 0;
        size_t at = 0;
        for (; at < key.len && key.ptr[at] >= '0' && key.ptr[at] <= '9'; at++)
            number = number * 10 + (key.ptr[at] - '0');
        if (at == key.len && key.len > 0 && key.len < 10 && (!largest.there || number > largest.value))
            largest = there(number);
    }
    return largest;
}

static sgc_number operand(const sgc_step *step, const sgc_slot *slot)
{
    switch (step->kind) {
    case SGC_STEP_NUMBER:
        return slot->kind == SGC_SLOT_VALUE ? there(slot->value) : absent;
    case SGC_STEP_COUNT:
        return slot->kind == SGC_SLOT_HIST ? there(slot->hist->count) : absent;
    case SGC_STEP_MEAN:
        return mean_of(slot);
    case SGC_STEP_SEEN:
        return there(slot->n_series > 0);
    case SGC_STEP_NAMED:
        return there(has_key(slot));
    case SGC_STEP_TOTAL:
        return total(slot, step->text);
    case SGC_STEP_ENTRY:
        return entry_of(slot, step->text);
    case SGC_STEP_LARGEST_KEY:
        return largest_key(slot);
    case SGC_STEP_CONSTANT:
        return there(step->number);
    default:
        return absent;
    }
}

/* ------------------------------------------------------------- operations */

static sgc_number first(const sgc_number *of, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (of[i].there)
            return of[i];
    return absent;
}

/* The sum of those that are there; with `all` of all or none. */
static sgc_number sum(const sgc_number *of, size_t n, bool all)
{
    sgc_number result = absent;
    for (size_t i = 0; i < n; i++) {
        if (of[i].there)
            result = there(result.value + of[i].value);
        else if (all)
            return absent;
    }
    return result;
}

static sgc_number ratio(sgc_number part, sgc_number whole)
{
    return part.there && whole.there && whole.value != 0 ? there(part.value / whole.value) : absent;
}

static sgc_number operation(const sgc_step *step, const sgc_number *of)
{
    switch (step->kind) {
    case SGC_STEP_FIRST:
        return first(of, step->n);
    case SGC_STEP_PLUS:
        return sum(of, step->n, true);
    case SGC_STEP_SUM:
        return sum(of, step->n, false);
    case SGC_STEP_RATIO:
        return ratio(of[0], of[1]);
    case SGC_STEP_TIMES:
        return of[0].there && of[1].there ? there(of[0].value * of[1].value) : absent;
    case SGC_STEP_CHOOSE:
        return of[0].there && of[0].value != 0 ? of[1] : of[2];
    default:
        return absent;
    }
}

sgc_number sgc_formula_value(const sgc_formula *formula, const sgc_fold *fold)
{
    static const sgc_slot none = {.kind = SGC_SLOT_ABSENT};
    sgc_number stack[DEPTH + 1] = {{false, 0}};
    size_t depth = 0;

    for (size_t i = 0; i < formula->n; i++) {
        const sgc_step *step = &formula->steps[i];
        size_t taken = n_operands(step);
        sgc_number made;
        if (taken) {
            depth -= taken;
            made = operation(step, &stack[depth]);
        } else {
            bool known = step->slot < sgc_fold_n_slots(fold);
            made = operand(step, known ? sgc_fold_slot(fold, step->slot) : &none);
        }
        stack[depth++] = made;
    }
    return stack[0];
}
