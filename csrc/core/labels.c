/*
 * labels.c - what a fold asks the labels of a sample: one's value, a key that
 * tells series apart, a rank, whether conditions hold.
 */
#include "fold.h"

bool sgc__contains(const sgc_str *list, size_t n, sgc_str text)
{
    for (size_t i = 0; i < n; i++)
        if (sgc__eq(list[i], text))
            return true;
    return false;
}

sgc_str sgc__plain_value(folder *f, const sgc_label *label)
{
    char *plain;

    if (SGC_LIKELY(!label->escaped))
        return label->value;
    plain = sgc__arena_alloc(&f->scratch, label->value.len, 1);
    if (!plain)
        return (sgc_str){NULL, 0};
    return (sgc_str){plain, sgc_unescape(label->value, plain)};
}

sgc_str sgc__value_of(folder *f, const sgc__sample *s, sgc_str name)
{
    for (uint32_t i = 0; i < s->n_labels; i++) {
        sgc_label label = sgc__label_at(s, i);
        if (sgc__eq(label.name, name))
            return sgc__plain_value(f, &label);
    }
    return SGC__STR("");
}

uint32_t sgc__label_find(const sgc__sample *s, sgc_str name)
{
    uint32_t i = 0;

    while (i < s->n_labels && !sgc__eq(sgc__label_at(s, i).name, name))
        i++;
    return i < s->n_labels ? i : UINT32_MAX;
}

uint64_t sgc__label_place(const sgc__sample *s, sgc_str name)
{
    uint32_t place = sgc__label_find(s, name);

    return place == UINT32_MAX ? 0 : sgc__label_bit(place);
}

/* Appends a label to the key, between bytes that no UTF-8 text has; there is
 * room for its text as it stands on the page. */
static void key_append(folder *f, const sgc_label *label)
{
    char *p = f->key.ptr + f->key.len;

    if (!label->value.len)
        return;
    memcpy(p, label->name.ptr, label->name.len);
    p += label->name.len;
    *p++ = '\xff';
    if (label->escaped) {
        p += sgc_unescape(label->value, p);
    } else {
        memcpy(p, label->value.ptr, label->value.len);
        p += label->value.len;
    }
    *p++ = '\xfe';
    f->key.len = (size_t)(p - f->key.ptr);
}

/* The sample's labels in order of their names, in scratch; NULL: no memory. */
static const sgc_label *labels_ordered(folder *f, const sgc__sample *s)
{
    const sgc_label **list = sgc__arena_alloc(&f->scratch, s->n_labels, sizeof *list);
    sgc_label *labels = sgc__arena_alloc(&f->scratch, s->n_labels, 2 * sizeof *labels);
    sgc_label *ordered;

    if (!list || !labels)
        return NULL;
    ordered = labels + s->n_labels;
    for (uint32_t i = 0; i < s->n_labels; i++) {
        labels[i] = sgc__label_at(s, i);
        list[i] = &labels[i];
    }
    sgc__sort(list, s->n_labels, sizeof *list, sgc__label_less);
    for (uint32_t i = 0; i < s->n_labels; i++)
        ordered[i] = *list[i];
    return ordered;
}

/* Are the labels in order as they stand, and how much room does a key of them need? */
static bool labels_measure(const sgc__sample *s, size_t *room)
{
    sgc_label before = {{NULL, 0}, {NULL, 0}, false};
    bool rise = true;

    *room = 0;
    for (uint32_t i = 0; i < s->n_labels; i++) {
        sgc_label label = sgc__label_at(s, i);
        *room += label.name.len + label.value.len + 2;
        rise = rise && (!i || sgc__str_order(before.name, label.name) < 0);
        before = label;
    }
    return rise;
}

bool sgc__key_build(folder *f, const sgc__sample *s, const sgc_str *without, size_t n_without, bool skip_le)
{
    sgc__arena mark = f->scratch;
    const sgc_label *ordered = NULL;
    size_t room;

    sgc__buf_reset(&f->key);
    if (!labels_measure(s, &room) && !(ordered = labels_ordered(f, s)))
        return false;
    if (sgc__buf_reserve(&f->key, room) != SGC_OK)
        return false;
    for (uint32_t i = 0; i < s->n_labels; i++) {
        sgc_label label = ordered ? ordered[i] : sgc__label_at(s, i);
        if (!(skip_le && sgc__eq(label.name, SGC__STR("le"))) &&
            !sgc__contains(without, n_without, label.name))
            key_append(f, &label);
    }
    if (mark.chunk == f->scratch.chunk) /* what this line needed goes back */
        f->scratch.used = mark.used;
    return true;
}

bool sgc__lowest_read(folder *f, const sgc__sample *s, const sgc_extract *x, double *lowest)
{
    for (size_t i = 0; i < x->n_lowest; i++) {
        sgc_str value = sgc__value_of(f, s, x->lowest[i]);
        if (!value.ptr)
            return false;
        lowest[i] = 0;
        if (value.len && (!sgc__number_read(value, &lowest[i]) || lowest[i] != lowest[i]))
            lowest[i] = INFINITY;
    }
    return true;
}

bool sgc__is_lower(const double *a, const double *b)
{
    for (int i = 0; i < SGC__LOWEST_MAX; i++)
        if (a[i] != b[i])
            return a[i] < b[i];
    return false;
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

bool sgc__sample_passes(folder *f, const sgc__sample *s, const sgc_extract *x, bool *failed)
{
    for (size_t i = 0; i < x->n_where; i++) {
        sgc_str value = sgc__value_of(f, s, x->where[i].label);
        if (!value.ptr) {
            *failed = true;
            return false;
        }
        if (!condition_holds(&x->where[i], value))
            return false;
    }
    return true;
}
