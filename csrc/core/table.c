/*
 * table.c - the one hash index and the one sort of the core.
 */
#include "sgc_int.h"

/* Slots are in order of the hashes but for the few that others have pushed on,
 * so that a table that grows is read and written from one end to the other, and
 * no key is looked at. */
static size_t home_of(const sgc__index *index, uint32_t hash)
{
    return hash >> index->shift;
}

size_t sgc__index_find(const sgc__index *index, sgc_str key, uint32_t *hash, sgc__key_at key_at,
                       const void *owner)
{
    size_t mask = index->n_slots - 1;
    const sgc__index_slot *held;

    *hash = sgc__index_hash(key);
    if (!index->n)
        return SIZE_MAX;
    for (size_t slot = home_of(index, *hash); (held = &index->slots[slot])->place; slot = (slot + 1) & mask)
        if (held->hash == *hash && sgc__eq(key_at(owner, held->place - 1), key))
            return held->place - 1;
    return SIZE_MAX;
}

static void file(sgc__index *index, sgc__index_slot entry)
{
    size_t mask = index->n_slots - 1, slot = home_of(index, entry.hash);

    while (index->slots[slot].place)
        slot = (slot + 1) & mask;
    index->slots[slot] = entry;
}

/* Doubles the table and files every entry again. */
static bool grow(sgc__index *index)
{
    sgc__index wide = {.n_slots = index->n_slots ? index->n_slots * 2 : 128,
                       .n = index->n,
                       .shift = index->n_slots ? index->shift - 1 : 32 - 7};

    wide.slots = wide.n_slots <= INT32_MAX ? sgc__alloc(wide.n_slots, sizeof *wide.slots) : NULL;
    if (!wide.slots)
        return false;
    for (size_t i = 0; i < index->n_slots; i++)
        if (index->slots[i].place)
            file(&wide, index->slots[i]);
    sgc__release(index->slots);
    *index = wide;
    return true;
}

bool sgc__index_add(sgc__index *index, uint32_t hash)
{
    if (index->n * 4 >= index->n_slots * 3 && !grow(index))
        return false;
    file(index, (sgc__index_slot){hash, (uint32_t)++index->n});
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
