/*
 * pool.c - buffers of bodies that are gone, for the next ones. What libc is given
 * back goes back to the system where much of it lies together, as bodies do, and
 * every page of it would have to be mapped and zeroed again: that costs as much
 * as half of a fetch.
 *
 * Who does not get the lock at once does without the pool: nobody waits, and in a
 * forked child, whose parent may have held it, nobody waits for ever.
 */
#include "pool.h"

#include <stdatomic.h>

typedef struct {
    char *ptr;
    size_t room;
} spare;

static struct {
    atomic_flag locked;
    atomic_uint users;
    spare list[SGC__POOL_BUFFERS]; /* the oldest first */
    size_t n;
    size_t bytes;
} pool = {.locked = ATOMIC_FLAG_INIT};

static bool try_lock(void)
{
    return !atomic_flag_test_and_set_explicit(&pool.locked, memory_order_acquire);
}

static void unlock(void)
{
    atomic_flag_clear_explicit(&pool.locked, memory_order_release);
}

/* Takes the spare buffer at `i` out of the list. */
static spare take_locked(size_t i)
{
    spare taken = pool.list[i];

    memmove(&pool.list[i], &pool.list[i + 1], (--pool.n - i) * sizeof taken);
    pool.bytes -= taken.room;
    return taken;
}

void sgc__pool_open(void)
{
    atomic_fetch_add(&pool.users, 1);
}

void sgc__pool_close(void)
{
    if (atomic_fetch_sub(&pool.users, 1) > 1 || !try_lock())
        return;
    while (pool.n)
        sgc__release(take_locked(pool.n - 1).ptr);
    unlock();
}

/* One of the last ones that is large enough, and not much too large; else none. */
static spare find(size_t need, size_t most)
{
    enum { LOOKED_AT = 8, LITTLE = 16 << 10 };
    spare found = {NULL, 0};

    if (!try_lock())
        return found;
    for (size_t i = 0; i < LOOKED_AT && i < pool.n && !found.ptr; i++) {
        size_t at = pool.n - 1 - i, room = pool.list[at].room;
        if (room >= need && room <= most && room <= 2 * need + LITTLE)
            found = take_locked(at);
    }
    unlock();
    return found;
}

sgc_status sgc__pool_reserve(sgc__buf *buf, size_t need)
{
    size_t ample = need + need / 16; /* the next body may be a little larger */
    spare found = {NULL, 0};

    if (need >= SGC__POOL_LEAST && need <= SGC__POOL_BYTES)
        found = find(need, buf->ceiling);
    if (!found.ptr)
        return sgc__buf_reserve(buf, need <= SGC__POOL_BYTES && ample <= buf->ceiling ? ample : need);
    buf->ptr = found.ptr;
    buf->room = found.room;
    return SGC_OK;
}

void sgc__pool_give(char *ptr, size_t room)
{
    if (!ptr)
        return;
    if (room < SGC__POOL_LEAST || room > SGC__POOL_BYTES || !try_lock()) {
        sgc__release(ptr);
        return;
    }
    if (!atomic_load(&pool.users)) {
        unlock();
        sgc__release(ptr);
        return;
    }
    while (pool.n == SGC__POOL_BUFFERS || pool.bytes + room > SGC__POOL_BYTES)
        sgc__release(take_locked(0).ptr);
    pool.list[pool.n++] = (spare){ptr, room};
    pool.bytes += room;
    unlock();
}
