/*
 * plan.c - which families are wanted and how their series become one number.
 * Building happens once; everything a fold needs is found by metric name.
 */
#include "plan.h"

sgc_status sgc_plan_new(const sgc_str *prefixes, size_t n_prefixes, sgc_plan **out, sgc_error *err)
{
    sgc_plan *plan = sgc__alloc(1, sizeof *plan);

    *out = NULL;
    if (!plan)
        return sgc__fail_memory(err);
    atomic_init(&plan->count, 1);
    plan->prefixes = sgc__arena_alloc(&plan->arena, n_prefixes, sizeof *plan->prefixes);
    if (!plan->prefixes)
        goto no_memory;
    for (size_t i = 0; i < n_prefixes; i++) {
        plan->prefixes[i] = sgc__arena_copy(&plan->arena, prefixes[i]);
        if (!plan->prefixes[i].ptr)
            goto no_memory;
    }
    plan->n_prefixes = n_prefixes;
    *out = plan;
    return SGC_OK;

no_memory:
    sgc_plan_free(plan);
    return sgc__fail_memory(err);
}

sgc_plan *sgc_plan_retain(sgc_plan *plan)
{
    atomic_fetch_add_explicit(&plan->count, 1, memory_order_relaxed);
    return plan;
}

void sgc_plan_free(sgc_plan *plan)
{
    if (!plan || atomic_fetch_sub_explicit(&plan->count, 1, memory_order_acq_rel) != 1)
        return;
    sgc__arena_free(&plan->arena);
    sgc__release(plan->extracts);
    sgc__release(plan->asks);
    sgc__release(plan->label_extracts);
    sgc__release(plan->names);
    sgc__release(plan->wants);
    sgc__index_free(&plan->index);
    sgc__release(plan);
}

size_t sgc_plan_n_extracts(const sgc_plan *plan)
{
    return plan->n_extracts;
}

static sgc_str name_at(const void *owner, size_t position)
{
    const sgc_plan *plan = owner;

    return plan->names[position].name;
}

uint32_t sgc__plan_find(const sgc_plan *plan, sgc_str name)
{
    uint32_t hash;
    size_t found = sgc__index_find(&plan->index, name, &hash, name_at, plan);

    return found == SIZE_MAX ? SGC__NO_WANT : plan->names[found].first;
}

/* ------------------------------------------------------------------ adding */

static bool strings_copy(sgc_plan *plan, const sgc_str *from, size_t n, const sgc_str **to)
{
    sgc_str *list = sgc__arena_alloc(&plan->arena, n, sizeof *list);

    if (!list)
        return false;
    for (size_t i = 0; i < n; i++) {
        list[i] = sgc__arena_copy(&plan->arena, from[i]);
        if (!list[i].ptr)
            return false;
    }
    *to = list;
    return true;
}

static bool conditions_copy(sgc_plan *plan, const sgc_extract *from, sgc_extract *to)
{
    sgc_cond *list = sgc__arena_alloc(&plan->arena, from->n_where, sizeof *list);

    if (!list)
        return false;
    for (size_t i = 0; i < from->n_where; i++) {
        list[i] = from->where[i];
        list[i].label = sgc__arena_copy(&plan->arena, from->where[i].label);
        if (!list[i].label.ptr ||
            !strings_copy(plan, from->where[i].values, from->where[i].n_values, &list[i].values))
            return false;
    }
    to->where = list;
    return true;
}

/* The extract with everything it points to in the plan's own memory. */
static bool extract_copy(sgc_plan *plan, const sgc_extract *from, sgc_extract *to)
{
    *to = *from;
    to->names = NULL;
    to->by = sgc__arena_copy(&plan->arena, from->by);
    return to->by.ptr && conditions_copy(plan, from, to) &&
           strings_copy(plan, from->without, from->n_without, &to->without) &&
           strings_copy(plan, from->lowest, from->n_lowest, &to->lowest);
}

/* prefix and name in one string. */
static sgc_str full_name(sgc_plan *plan, sgc_str prefix, sgc_str name)
{
    char *text = prefix.len <= SIZE_MAX - name.len - 1
                     ? sgc__arena_alloc(&plan->arena, prefix.len + name.len + 1, 1)
                     : NULL;

    if (!text)
        return (sgc_str){NULL, 0};
    if (prefix.len)
        memcpy(text, prefix.ptr, prefix.len);
    if (name.len)
        memcpy(text + prefix.len, name.ptr, name.len);
    return (sgc_str){text, prefix.len + name.len};
}

/* Puts the want at the end of its name's chain; the rooms have been made. */
static bool want_add(sgc_plan *plan, sgc_str name, uint32_t rank)
{
    uint32_t hash;
    size_t found = sgc__index_find(&plan->index, name, &hash, name_at, plan);
    uint32_t *link;

    if (found == SIZE_MAX) {
        plan->names[plan->n_names] = (sgc__wanted_name){name, SGC__NO_WANT};
        if (!sgc__index_add(&plan->index, hash))
            return false;
        found = plan->n_names++;
    }
    link = &plan->names[found].first;
    while (*link != SGC__NO_WANT)
        link = &plan->wants[*link].next;
    *link = (uint32_t)plan->n_wants;
    plan->wants[plan->n_wants++] = (sgc__want){(uint32_t)plan->n_extracts, rank, SGC__NO_WANT};
    return true;
}

/* Room for one more extract and `more` names and wants. */
static bool rooms_make(sgc_plan *plan, size_t more)
{
    sgc_extract *extracts = sgc__resize(plan->extracts, plan->n_extracts + 1, sizeof *extracts);
    uint32_t *label_extracts =
        sgc__resize(plan->label_extracts, plan->n_label_extracts + 1, sizeof *label_extracts);
    sgc__ask *asks = sgc__resize(plan->asks, plan->n_extracts + 1, sizeof *asks);
    sgc__wanted_name *names;
    sgc__want *wants;

    if (extracts)
        plan->extracts = extracts;
    if (label_extracts)
        plan->label_extracts = label_extracts;
    if (asks)
        plan->asks = asks;
    if (!extracts || !label_extracts || !asks)
        return false;
    names = sgc__resize(plan->names, plan->n_names + more, sizeof *names);
    if (!names)
        return false;
    plan->names = names;
    wants = sgc__resize(plan->wants, plan->n_wants + more, sizeof *wants);
    if (!wants)
        return false;
    plan->wants = wants;
    return true;
}

/* Takes back wants and names from these counts on: an add failed half-way. */
static void roll_back(sgc_plan *plan, size_t n_names, size_t n_wants)
{
    plan->n_wants = n_wants;
    for (size_t i = 0; i < n_names; i++) {
        uint32_t *link = &plan->names[i].first;
        while (*link != SGC__NO_WANT && *link < n_wants)
            link = &plan->wants[*link].next;
        *link = SGC__NO_WANT;
    }
    sgc__index_clear(&plan->index);
    for (plan->n_names = 0; plan->n_names < n_names; plan->n_names++) {
        sgc_str name = plan->names[plan->n_names].name;
        sgc__index_add(&plan->index, sgc__index_hash(name));
    }
}

static bool strings_eq(const sgc_str *a, const sgc_str *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!sgc__eq(a[i], b[i]))
            return false;
    return true;
}

static bool conditions_eq(const sgc_cond *a, const sgc_cond *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!sgc__eq(a[i].label, b[i].label) || a[i].op != b[i].op || a[i].negate != b[i].negate ||
            a[i].n_values != b[i].n_values || !strings_eq(a[i].values, b[i].values, a[i].n_values))
            return false;
    return true;
}

/* A series of a histogram has a row of its own, whatever is left out. */
static bool key_eq(const sgc_extract *a, const sgc_extract *b)
{
    return a->kind == b->kind &&
           (a->kind == SGC_KIND_HISTOGRAM ||
            (a->n_without == b->n_without && strings_eq(a->without, b->without, a->n_without)));
}

static bool rule_eq(const sgc_extract *a, const sgc_extract *b)
{
    return a->kind == b->kind && sgc__eq(a->by, b->by) && a->n_without == b->n_without &&
           a->n_lowest == b->n_lowest && a->n_where == b->n_where &&
           strings_eq(a->without, b->without, a->n_without) &&
           strings_eq(a->lowest, b->lowest, a->n_lowest) && conditions_eq(a->where, b->where, a->n_where);
}

/* The numbers of an extract: those of one of the last extracts, or new ones. */
static sgc__ask ask_take(sgc_plan *plan, const sgc_extract *extract)
{
    enum { MOST = 256 };
    sgc__ask ask = {UINT32_MAX, UINT32_MAX};

    for (size_t i = plan->n_extracts; i-- > 0 && plan->n_extracts - i <= MOST;) {
        if (ask.key == UINT32_MAX && key_eq(&plan->extracts[i], extract))
            ask.key = plan->asks[i].key;
        if (ask.rule == UINT32_MAX && rule_eq(&plan->extracts[i], extract))
            ask.rule = plan->asks[i].rule;
    }
    if (ask.key == UINT32_MAX)
        ask.key = plan->n_keys++;
    if (ask.rule == UINT32_MAX)
        ask.rule = plan->n_rules++;
    return ask;
}

static sgc_status extract_check(const sgc_extract *extract, sgc_error *err)
{
    if (extract->n_lowest > SGC__LOWEST_MAX)
        return sgc__fail_argument(err, "too many labels in lowest", extract->lowest[SGC__LOWEST_MAX]);
    if (extract->kind == SGC_KIND_LABEL && !extract->by.len)
        return sgc__fail_argument(err, "a label extract needs the label in by", (sgc_str){NULL, 0});
    if (extract->kind != SGC_KIND_LABEL && !extract->n_names)
        return sgc__fail_argument(err, "an extract needs a metric name", (sgc_str){NULL, 0});
    return SGC_OK;
}

sgc_status sgc_plan_add(sgc_plan *plan, const sgc_extract *extract, sgc_error *err)
{
    size_t names_before = plan->n_names, wants_before = plan->n_wants, more;
    sgc_extract copy;
    sgc_status status = extract_check(extract, err);

    if (status != SGC_OK)
        return status;
    if (!sgc__mul_size(extract->n_names, plan->n_prefixes, &more) || more > UINT32_MAX / 2 ||
        !extract_copy(plan, extract, &copy) || !rooms_make(plan, more))
        return sgc__fail_memory(err);
    for (size_t i = 0; i < more; i++) {
        sgc_str name =
            full_name(plan, plan->prefixes[i % plan->n_prefixes], extract->names[i / plan->n_prefixes]);
        if (!name.ptr || !want_add(plan, name, (uint32_t)i)) {
            roll_back(plan, names_before, wants_before);
            return sgc__fail_memory(err);
        }
    }
    plan->asks[plan->n_extracts] = ask_take(plan, &copy);
    plan->extracts[plan->n_extracts++] = copy;
    if (copy.kind == SGC_KIND_LABEL)
        plan->label_extracts[plan->n_label_extracts++] = (uint32_t)plan->n_extracts - 1;
    return SGC_OK;
}
