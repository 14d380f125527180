/*
 * rules.c - what the labels of a sample mean to extracts: whether it is taken, into
 * which row, and with which rank. Most extracts of a plan ask the same, most lines of
 * a page have the same label names, and many the same values, so that it is found
 * out once for all of them.
 */
#include "fold.h"

static bool makes_keys(const sgc_extract *x)
{
    return x->kind == SGC_KIND_HISTOGRAM || x->n_without;
}

/* What the label names tell. */
static void layout_learn(rule *r, const sgc_extract *x, const sgc__sample *s)
{
    bool histogram = x->kind == SGC_KIND_HISTOGRAM;

    r->layout = s->layout;
    r->decisive = 0;
    if (makes_keys(x)) { /* a row a series, or a group of repeats */
        r->key = histogram ? (key_rule){.without_le = true}
                           : (key_rule){.without = x->without, .n_without = x->n_without};
        sgc__key_learn(&r->key, s);
        r->decisive = r->key.labels;
    }
    if (histogram && x->n_without) {
        r->group = (key_rule){.without = x->without, .n_without = x->n_without, .without_le = true};
        sgc__key_learn(&r->group, s);
    }
    r->le = histogram ? sgc__label_find(s, SGC__STR("le")) : UINT32_MAX;
    for (size_t i = 0; i < x->n_lowest; i++)
        r->lowest[i] = sgc__label_find(s, x->lowest[i]);
    r->by = x->by.len ? sgc__label_find(s, x->by) : UINT32_MAX;
    r->decisive |= r->by == UINT32_MAX ? 0 : sgc__label_bit(r->by);
    for (size_t i = 0; i < x->n_where; i++)
        r->decisive |= sgc__label_place(s, x->where[i].label);
}

bool sgc__rule_apply(folder *f, rule *r, const sgc_extract *x, const sgc__sample *s)
{
    bool failed = false;

    if (s->layout && s->layout == r->layout && s->text == r->text)
        return true;
    if (!s->layout || s->layout != r->layout)
        layout_learn(r, x, s);
    r->text = s->text;
    r->made.ptr = NULL;
    r->passes = sgc__sample_passes(f, s, x, &failed);
    return !failed;
}

sgc_str sgc__rule_by(folder *f, const rule *r, const sgc__sample *s)
{
    sgc_label label;

    if (r->by == UINT32_MAX)
        return SGC__STR("");
    label = sgc__label_at(s, r->by);
    return sgc__plain_value(f, &label);
}

sgc_str sgc__rule_key(folder *f, const rule *r, const sgc_extract *x, const sgc__sample *s)
{
    if (r->made.ptr)
        return r->made;
    if (!makes_keys(x))
        return sgc__rule_by(f, r, s);
    if (!sgc__key_build(f, s, &r->key))
        return (sgc_str){NULL, 0};
    return f->key.len ? (sgc_str){f->key.ptr, f->key.len} : SGC__STR("");
}

size_t sgc__rule_row(folder *f, rule *r, table *t, sgc_str key, bool *fresh)
{
    size_t row = sgc__row_take(r->made.ptr ? NULL : &f->scratch, t, key, fresh);

    if (row != SIZE_MAX)
        r->made = sgc__row_key(t, row);
    return row;
}
