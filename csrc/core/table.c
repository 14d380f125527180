/*
 * table.c - the one hash index and the one sort of the core.
 */
#include "sgc_int.h"

/* A slot holds a position + 1 in as many bits as positions can have, and in the
 * others the upper bits of the key's hash: few keys are looked at that are not
 * the one, each of which may be far from any cache. */
static uint32_t tag_of(const sgc__index *index, uint64_t hash)
{
    return (uint32_t)(hash >> 32) & ~(uint32_t)(index->n_slots - 1);
}

size_t sgc__index_find(const sgc__index *index, sgc_str key, uint64_t *hash, sgc__key_at key_at,
                       const void *owner)
{
    size_t mask = index->n_slots - 1;
    uint32_t tag, held;

    *hash = sgc__hash(key.ptr, key.len);
    if (!index->n)
        return SIZE_MAX;
    tag = tag_of(index, *hash);
    for (size_t slot = (size_t)*hash & mask; (held = index->slots[slot]) != 0; slot = (slot + 1) & mask) {
        uint32_t position = (held & (uint32_t)mask) - 1;
        if ((held & ~(uint32_t)mask) == tag && sgc__eq(key_at(owner, position), key))
            return position;
    }
    return SIZE_MAX;
}

static void file(sgc__index *index, uint64_t hash, size_t position)
{
    size_t mask = index->n_slots - 1, slot = (size_t)hash & mask;

    while (index->slots[slot])
        slot = (slot + 1) & mask;
    index->slots[slot] = ((uint32_t)position + 1) | tag_of(index, hash);
}

/* Doubles the table and files every position again. */
static bool grow(sgc__index *index, sgc__key_at key_at, const void *owner)
{
    sgc__index wide = {.n_slots = index->n_slots ? index->n_slots * 2 : 32, .n = index->n};

    wide.slots = sgc__alloc(wide.n_slots, sizeof *wide.slots);
    if (!wide.slots)
        return false;
    for (size_t i = 0; i < index->n; i++) {
        sgc_str key = key_at(owner, i);
        file(&wide, sgc__hash(key.ptr, key.len), i);
    }
    sgc__release(index->slots);
    *index = wide;
    return true;
}

bool sgc__index_add(sgc__index *index, uint64_t hash, sgc__key_at key_at, const void *owner)
{
    if (index->n >= UINT32_MAX - 1)
        return false;
    if (index->n * 4 >= index->n_slots * 3 && !grow(index, key_at, owner))
        return false;
    file(index, hash, index->n++);
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
