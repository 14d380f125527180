/*
 * labels.c - what a fold asks the labels of a sample: one's place and value, a key
 * that tells series apart, a rank.
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

uint32_t sgc__label_find(const sgc__sample *s, sgc_str name)
{
    uint32_t i = 0;

    while (i < s->n_labels && !sgc__eq(sgc__label_at(s, i).name, name))
        i++;
    return i < s->n_labels ? i : UINT32_MAX;
}

/* ------------------------------------------------------------------- keys */

/* A key has the labels in order of their names, each as pages mostly write it,
 * name="value" and a comma. A name or value that holds a quote could be taken for
 * more than one label so: it stands between bytes that no UTF-8 text has. */

static bool rule_takes(const key_rule *rule, sgc_str name)
{
    return !(rule->without_le && sgc__eq(name, SGC__STR("le"))) &&
           !sgc__contains(rule->without, rule->n_without, name);
}

static char *put(char *p, const char *text, size_t len)
{
    memcpy(p, text, len);
    return p + len;
}

/* There is room for it. */
static void key_append(folder *f, const sgc_label *label)
{
    char *p = f->key.ptr + f->key.len;

    if (!label->value.len)
        return;
    if (label->escaped || memchr(label->name.ptr, '"', label->name.len)) {
        *p++ = '\xff';
        p = put(p, label->name.ptr, label->name.len);
        *p++ = '\xff';
        if (label->escaped)
            p += sgc_unescape(label->value, p);
        else
            p = put(p, label->value.ptr, label->value.len);
        *p++ = '\xff';
    } else {
        p = put(p, label->name.ptr, label->name.len);
        p = put(p, "=\"", 2);
        p = put(p, label->value.ptr, label->value.len);
        p = put(p, "\",", 2);
    }
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

/* Room for a key of any of the sample's labels. */
static bool key_reserve(folder *f, const sgc__sample *s)
{
    size_t room = 0;

    for (uint32_t i = 0; i < s->n_labels; i++) {
        sgc_label label = sgc__label_at(s, i);
        room += label.name.len + label.value.len + 4;
    }
    sgc__buf_reset(&f->key);
    return sgc__buf_reserve(&f->key, room) == SGC_OK;
}

/* The same where its labels stand one behind the other. */
static bool pieces_reserve(folder *f, const sgc__sample *s)
{
    sgc_label first, last;

    sgc__buf_reset(&f->key);
    if (!s->n_labels)
        return true;
    first = sgc__label_at(s, 0);
    last = sgc__label_at(s, s->n_labels - 1);
    return sgc__buf_reserve(&f->key, (size_t)(last.value.ptr - first.name.ptr) + last.value.len +
                                         2 * (size_t)s->n_labels) == SGC_OK;
}

/* Does the label stand on the page as a key has it, and behind the one before,
 * NULL where it is the first? */
static bool stands_as_in_key(const sgc_label *before, const sgc_label *label)
{
    return label->value.ptr == label->name.ptr + label->name.len + 2 &&
           (!before || (label->name.ptr == before->value.ptr + before->value.len + 2 &&
                        sgc__str_order(before->name, label->name) < 0));
}

void sgc__key_learn(key_rule *rule, const sgc__sample *s)
{
    sgc_label label, before = {{NULL, 0}, {NULL, 0}, false};

    rule->labels = 0;
    rule->in_order = s->n_labels < 63;
    for (uint32_t i = 0; i < s->n_labels; i++, before = label) {
        label = sgc__label_at(s, i);
        rule->in_order = rule->in_order && stands_as_in_key(i ? &before : NULL, &label);
        if (rule_takes(rule, label.name))
            rule->labels |= sgc__label_bit(i);
    }
}

/* The key as the page has it, in as few pieces as the rule's labels stand in.
 * False: it is written otherwise there. */
static bool pieces_append(folder *f, const sgc__sample *s, uint64_t labels)
{
    const char *from = NULL, *stop = NULL;
    char *p = f->key.ptr;

    for (uint32_t i = 0; i < s->n_labels; i++) {
        sgc_label label = sgc__label_at(s, i);
        if (labels >> i & 1) {
            if (label.escaped || !label.value.len)
                return false;
            from = from ? from : label.name.ptr;
            stop = label.value.ptr + label.value.len;
        } else if (from) {
            p = put(p, from, (size_t)(stop - from));
            p = put(p, "\",", 2);
            from = NULL;
        }
    }
    if (from) {
        p = put(p, from, (size_t)(stop - from));
        p = put(p, "\",", 2);
    }
    f->key.len = (size_t)(p - f->key.ptr);
    return true;
}

bool sgc__key_build(folder *f, const sgc__sample *s, const key_rule *rule)
{
    sgc__arena mark = f->scratch;
    const sgc_label *ordered;

    if (rule->in_order) {
        if (!pieces_reserve(f, s))
            return false;
        if (pieces_append(f, s, rule->labels))
            return true;
    }
    if (!key_reserve(f, s))
        return false;
    ordered = labels_ordered(f, s);
    if (!ordered)
        return false;
    for (uint32_t i = 0; i < s->n_labels; i++)
        if (rule_takes(rule, ordered[i].name))
            key_append(f, &ordered[i]);
    if (mark.chunk == f->scratch.chunk) /* what this line needed goes back */
        f->scratch.used = mark.used;
    return true;
}

/* ------------------------------------------------------------------ ranks */

static bool rank_read(sgc_str value, double *rank)
{
    if (value.len == 1 && (unsigned char)(*value.ptr - '0') < 10) {
        *rank = *value.ptr - '0';
        return true;
    }
    return sgc__number_read(value, rank) && *rank == *rank;
}

bool sgc__lowest_read(folder *f, const sgc__sample *s, const uint32_t *places, size_t n, double *lowest)
{
    for (size_t i = 0; i < n; i++) {
        sgc_label label;
        sgc_str value;

        lowest[i] = 0;
        if (places[i] == UINT32_MAX)
            continue;
        label = sgc__label_at(s, places[i]);
        value = sgc__plain_value(f, &label);
        if (!value.ptr)
            return false;
        if (value.len && !rank_read(value, &lowest[i]))
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
