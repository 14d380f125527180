/*
 * table.c - the one hash index and the one sort of the core.
 */
#include "sgc_int.h"

/* The slot that holds the key, or the free one where it would go. */
static size_t slot_of(const sgc__index *index, sgc_str key, sgc__key_at key_at, const void *owner)
{
    size_t mask = index->n_slots - 1;
    size_t slot = (size_t)sgc__hash(key.ptr, key.len) & mask;

    while (index->slots[slot] && !sgc__eq(key_at(owner, index->slots[slot] - 1), key))
        slot = (slot + 1) & mask;
    return slot;
}

size_t sgc__index_find(const sgc__index *index, sgc_str key, sgc__key_at key_at, const void *owner)
{
    uint32_t held = index->n ? index->slots[slot_of(index, key, key_at, owner)] : 0;

    return held ? held - 1 : SIZE_MAX;
}

/* Doubles the table and files every position again. */
static bool grow(sgc__index *index, sgc__key_at key_at, const void *owner)
{
    sgc__index wide = {.n_slots = index->n_slots ? index->n_slots * 2 : 32, .n = index->n};

    wide.slots = sgc__alloc(wide.n_slots, sizeof *wide.slots);
    if (!wide.slots)
        return false;
    for (size_t i = 0; i < index->n; i++)
        wide.slots[slot_of(&wide, key_at(owner, i), key_at, owner)] = (uint32_t)i + 1;
    sgc__release(index->slots);
    *index = wide;
    return true;
}

bool sgc__index_add(sgc__index *index, sgc_str key, sgc__key_at key_at, const void *owner)
{
    if (index->n >= UINT32_MAX - 1)
        return false;
    if (index->n * 4 >= index->n_slots * 3 && !grow(index, key_at, owner))
        return false;
    index->slots[slot_of(index, key, key_at, owner)] = (uint32_t)++index->n;
    return true;
}

/* A table that was needed once for much does not cost its size each time that
 * little is cleared from it. */
void sgc__index_clear(sgc__index *index)
{
    if (index->n_slots > 256 && index->n < index->n_slots / 16)
        sgc__index_free(index);
    else if (index->n)
        memset(index->slots, 0, index->n_slots * sizeof *index->slots);
    index->n = 0;
}

void sgc__index_free(sgc__index *index)
{
    sgc__release(index->slots);
    memset(index, 0, sizeof *index);
}

/* Heap sort: the heap's largest goes to the end, again and again. */
void sgc__sort(void *base, size_t n, size_t size, bool (*less)(const void *a, const void *b))
{
    char *list = base;
    _Alignas(16) char moved[16];
    size_t rest = n, root = n / 2, hole, child;

    while (rest > 1) {
        if (root) {
            hole = --root;
            memcpy(moved, list + root * size, size);
        } else {
            hole = 0;
            memcpy(moved, list + --rest * size, size);
            memcpy(list + rest * size, list, size);
        }
        for (; (child = 2 * hole + 1) < rest; hole = child) {
            if (child + 1 < rest && less(list + child * size, list + (child + 1) * size))
                child++;
            if (!less(moved, list + child * size))
                break;
            memcpy(list + hole * size, list + child * size, size);
        }
        memcpy(list + hole * size, moved, size);
    }
}
