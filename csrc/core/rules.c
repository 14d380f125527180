/*
 * rules.c - what the labels of a sample mean to extracts: whether it is taken, into
 * which row, and with which rank. Most extracts of a plan ask the same, most lines of
 * a page have the same label names, and many the same values, so that it is found
 * out once for all of them.
 */
#include "fold.h"

bool sgc__has_keys(const sgc_extract *x)
{
    return x->kind == SGC_KIND_HISTOGRAM || x->n_without;
}

/* ------------------------------------------------------------------- keys */

key_rule sgc__keys_of(const sgc_extract *x)
{
    if (x->kind == SGC_KIND_HISTOGRAM)
        return (key_rule){.without_le = true}; /* a row a series */
    return (key_rule){.without = x->without, .n_without = x->n_without};
}

static void key_layout(row_key *k, const sgc__sample *s)
{
    if (s->layout && s->layout == k->layout)
        return;
    k->layout = s->layout;
    k->made.ptr = NULL;
    sgc__key_learn(&k->rule, s);
}

sgc_str sgc__row_key_of(folder *f, row_key *k, const sgc__sample *s)
{
    if (k->made.ptr && s->layout && s->layout == k->layout && s->text == k->text)
        return k->made;
    key_layout(k, s);
    k->text = s->text;
    k->made.ptr = NULL;
    if (!sgc__key_build(f, s, &k->rule))
        return (sgc_str){NULL, 0};
    return f->key.len ? (sgc_str){f->key.ptr, f->key.len} : SGC__STR("");
}

size_t sgc__row_of_key(row_key *k, table *t, sgc_str key, bool *fresh)
{
    size_t row = sgc__row_take(t, key, k->made.ptr != NULL, fresh);

    if (row != SIZE_MAX)
        k->made = sgc__row_key(t, row);
    return row;
}

/* ------------------------------------------------------------------ rules */

/* What the label names tell. */
static void layout_learn(rule *r, row_key *k, const sgc_extract *x, const sgc__sample *s)
{
    bool histogram = x->kind == SGC_KIND_HISTOGRAM;

    r->layout = s->layout;
    r->decisive = 0;
    if (sgc__has_keys(x)) {
        key_layout(k, s);
        r->decisive = k->rule.labels;
    }
    if (histogram && x->n_without) {
        r->group = (key_rule){.without = x->without, .n_without = x->n_without, .without_le = true};
        sgc__key_learn(&r->group, s);
    }
    r->le = histogram ? sgc__label_find(s, SGC__STR("le")) : UINT32_MAX;
    for (size_t i = 0; i < x->n_lowest; i++)
        r->lowest[i] = sgc__label_find(s, x->lowest[i]);
    r->by = x->by.len ? sgc__label_find(s, x->by) : UINT32_MAX;
    r->decisive |= sgc__place_bit(r->by);
    for (size_t i = 0; i < x->n_where; i++) {
        uint32_t place = sgc__label_find(s, x->where[i].label);
        r->decisive |= sgc__place_bit(place);
        if (i < SGC__PLACES)
            r->where[i] = place;
    }
}

/* The value of the label at a place, "" where it is UINT32_MAX; ptr NULL: no memory. */
static sgc_str value_at(folder *f, const sgc__sample *s, uint32_t place)
{
    sgc_label label;

    if (place == UINT32_MAX)
        return SGC__STR("");
    label = sgc__label_at(s, place);
    return sgc__plain_value(f, &label);
}

sgc_str sgc__rule_by(folder *f, const rule *r, const sgc__sample *s)
{
    return value_at(f, s, r->by);
}

static bool condition_holds(const sgc_cond *cond, sgc_str value)
{
    for (size_t i = 0; i < cond->n_values; i++) {
        sgc_str want = cond->values[i];
        if (cond->op == SGC_OP_IS       ? sgc__eq(value, want)
            : cond->op == SGC_OP_STARTS ? sgc__starts(value, want)
                                        : sgc__ends(value, want))
            return !cond->negate;
    }
    return cond->negate;
}

/* Does every condition hold? False: no memory. */
static bool conditions_check(folder *f, rule *r, const sgc_extract *x, const sgc__sample *s)
{
    r->passes = true;
    for (size_t i = 0; r->passes && i < x->n_where; i++) {
        sgc_str value = value_at(f, s, i < SGC__PLACES ? r->where[i] : sgc__label_find(s, x->where[i].label));
        if (!value.ptr)
            return false;
        r->passes = condition_holds(&x->where[i], value);
    }
    return true;
}

bool sgc__rule_apply(folder *f, uint32_t extract, const sgc__sample *s)
{
    const sgc_extract *x = &f->plan->extracts[extract];
    rule *r = &f->rules[f->plan->asks[extract].rule];

    if (!s->layout || s->layout != r->layout)
        layout_learn(r, &f->keys[f->plan->asks[extract].key], x, s);
    else if (s->text == r->text)
        return true;
    r->text = s->text;
    return conditions_check(f, r, x, s);
}
