/*
 * rows.c - the rows that a fold gathers numbers in, found by their keys. Most
 * tables have one row, or few: those are looked at one by one, and only where
 * there are more an index is made. Most families of a page have the same series in
 * the same order: while a table's rows are those of another's, which are all different,
 * nothing has to be looked for.
 */
#include "fold.h"

enum {
    FEW_ROWS = 8,
    MANY_SLOTS = 1 << 15, /* more are not expected to stay in the caches */
};

sgc_str sgc__row_key(const void *owner, size_t i)
{
    const table *t = owner;

    return *(const sgc_str *)((const char *)t->list + i * t->size);
}

/* Few rows lie in the arena, where those that became too few stay until its end; many
 * on the heap, which takes such back. */
static bool grow(table *t)
{
    size_t room = t->room < FEW_ROWS ? t->room + FEW_ROWS / 2 : sgc__grow(t->room, 0);
    void *list = room <= FEW_ROWS ? sgc__arena_alloc(t->arena, room, t->size)
                                  : sgc__resize(t->on_heap ? t->list : NULL, room, t->size);

    if (!list)
        return false;
    if (t->n && !t->on_heap)
        memcpy(list, t->list, t->n * t->size);
    t->list = list;
    t->room = room;
    t->on_heap = room > FEW_ROWS;
    return true;
}

size_t sgc__row_push(table *t, sgc_str key, bool kept)
{
    char *row;

    t->lead = NULL;
    if (t->n == t->room && !grow(t))
        return SIZE_MAX;
    if (!kept)
        key = sgc__arena_copy(t->arena, key);
    if (!key.ptr)
        return SIZE_MAX;
    row = (char *)t->list + t->n * t->size;
    memset(row, 0, t->size);
    memcpy(row, &key, sizeof key);
    return t->n++;
}

size_t sgc__row_follow(table *t)
{
    if (t->n == t->room && !grow(t))
        return SIZE_MAX;
    memcpy((char *)t->list + t->n * t->size, (const char *)t->lead->list + t->n * t->size, t->size);
    return t->n++;
}

/* Finds the row, with the hash of the key where the table has an index. */
static size_t row_find(const table *t, sgc_str key, uint32_t *hash)
{
    if (t->index.n)
        return sgc__index_find(&t->index, key, hash, sgc__row_key, t);
    for (size_t i = 0; i < t->n; i++)
        if (sgc__short_eq(sgc__row_key(t, i), key))
            return i;
    return SIZE_MAX;
}

/* Files all rows where they are no longer few. */
static bool rows_file(table *t)
{
    for (size_t i = 0; t->n > FEW_ROWS && i < t->n; i++) {
        if (!sgc__index_add(&t->index, sgc__index_hash(sgc__row_key(t, i)))) {
            sgc__index_clear(&t->index);
            return false;
        }
    }
    return true;
}

size_t sgc__row_take(table *t, sgc_str key, bool kept, bool *fresh)
{
    uint32_t hash = 0;
    size_t found;

    *fresh = false;
    if (!t->index.n && !rows_file(t))
        return SIZE_MAX;
    found = row_find(t, key, &hash);
    *fresh = found == SIZE_MAX;
    if (!*fresh)
        return found;
    found = sgc__row_push(t, key, kept);
    if (found == SIZE_MAX || (t->index.n ? sgc__index_add(&t->index, hash) : rows_file(t)))
        return found;
    t->n--; /* the index never tells of a row that is not there */
    return SIZE_MAX;
}

void sgc__row_expect(const table *t, sgc_str key)
{
    if (t->index.n_slots > MANY_SLOTS)
        sgc__index_expect(&t->index, key);
}

void sgc__table_clear(table *t)
{
    t->n = 0;
    t->lead = NULL;
    sgc__index_clear(&t->index);
}

void sgc__table_free(table *t)
{
    if (t->on_heap)
        sgc__release(t->list);
    sgc__index_free(&t->index);
}
