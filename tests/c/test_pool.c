/*
 * test_pool.c - buffers that are given back serve again, within bounds.
 */
#include <pthread.h>

#include "alloc.h"
#include "check.h"
#include "pool.h"

enum { PAGE = 64 << 10, CEILING = 64 << 20 };

static sgc__buf buffer_of(size_t need, size_t ceiling)
{
    sgc__buf buf;

    sgc__buf_init(&buf, ceiling);
    CHECK(sgc__pool_reserve(&buf, need) == SGC_OK && buf.ptr && buf.room >= need && buf.room <= ceiling &&
          buf.len == 0);
    return buf;
}

static void a_buffer_serves_again_where_it_fits(void)
{
    char *first;
    sgc__buf buf;

    sgc__pool_open();
    buf = buffer_of(PAGE, CEILING);
    first = buf.ptr;
    sgc__pool_give(buf.ptr, buf.room);
    buf = buffer_of(PAGE + 100, CEILING); /* a page grows a little */
    CHECK(buf.ptr == first);
    sgc__pool_give(buf.ptr, buf.room);
    buf = buffer_of(PAGE / 8, CEILING); /* far too large for it */
    CHECK(buf.ptr != first);
    sgc__pool_give(buf.ptr, buf.room);
    buf = buffer_of(PAGE, PAGE); /* larger than the ceiling */
    CHECK(buf.ptr != first);
    sgc__pool_give(buf.ptr, buf.room);
    buf = buffer_of(2 * PAGE, CEILING);
    CHECK(buf.ptr != first);
    sgc__pool_give(buf.ptr, buf.room);
    sgc__pool_close();
}

static void a_ceiling_is_kept(void)
{
    sgc__buf buf;

    sgc__buf_init(&buf, PAGE);
    CHECK(sgc__pool_reserve(&buf, PAGE + 1) == SGC_LIMIT && !buf.ptr);
    CHECK(sgc__pool_reserve(&buf, 0) == SGC_OK);
    sgc__buf_free(&buf);
}

/* Gives back n buffers of that size, and returns how many are kept. */
static long kept_of(int n, size_t size)
{
    enum { MOST = 400 };
    sgc__buf list[MOST];
    long before = atomic_load(&alloc_live);

    for (int i = 0; i < n && i < MOST; i++)
        list[i] = buffer_of(size, CEILING);
    for (int i = 0; i < n && i < MOST; i++)
        sgc__pool_give(list[i].ptr, list[i].room);
    return atomic_load(&alloc_live) - before;
}

static void what_is_kept_is_bounded_and_goes_with_the_last_scraper(void)
{
    long before;

    alloc_install();
    before = atomic_load(&alloc_live);
    CHECK(kept_of(3, PAGE) == 0); /* no scraper yet */
    sgc__pool_open();
    sgc__pool_open();
    CHECK(kept_of(3, SGC__POOL_LEAST / 2) == 0);
    CHECK(kept_of(2, (size_t)SGC__POOL_BYTES + 1) == 0);
    CHECK(kept_of(300, SGC__POOL_LEAST) == SGC__POOL_BUFFERS);
    CHECK(kept_of(100, 1 << 20) < 0); /* the newest stay, and those are larger */
    CHECK(atomic_load(&alloc_live) - before <= SGC__POOL_BYTES / (1 << 20));
    sgc__pool_close();
    CHECK(atomic_load(&alloc_live) > before);
    sgc__pool_close();
    CHECK(atomic_load(&alloc_live) == before);
    sgc_allocator_set(NULL);
}

static void *worker(void *arg)
{
    for (int i = 0; i < 2000; i++) {
        size_t need = SGC__POOL_LEAST + (size_t)(i % 7) * 1000;
        sgc__buf buf;
        sgc__buf_init(&buf, CEILING);
        if (sgc__pool_reserve(&buf, need) != SGC_OK)
            return NULL;
        memset(buf.ptr, i, need);
        for (size_t k = 0; k < need; k += 500)
            if (buf.ptr[k] != (char)i)
                *(bool *)arg = true;
        sgc__pool_give(buf.ptr, buf.room);
    }
    return NULL;
}

static void no_buffer_serves_two_threads_at_once(void)
{
    pthread_t threads[4];
    bool mixed[4] = {false};

    sgc__pool_open();
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, worker, &mixed[i]);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        CHECK(!mixed[i]);
    }
    sgc__pool_close();
}

static bool reserves(void)
{
    sgc__buf buf;
    bool ok;

    sgc__pool_open();
    sgc__buf_init(&buf, CEILING);
    ok = sgc__pool_reserve(&buf, PAGE) == SGC_OK;
    sgc__pool_give(buf.ptr, buf.room);
    sgc__pool_close();
    return ok;
}

static void a_failed_allocation_is_told(void)
{
    alloc_install();
    alloc_sweep("a buffer", reserves);
    sgc_allocator_set(NULL);
}

int main(void)
{
    a_buffer_serves_again_where_it_fits();
    a_ceiling_is_kept();
    what_is_kept_is_bounded_and_goes_with_the_last_scraper();
    no_buffer_serves_two_threads_at_once();
    a_failed_allocation_is_told();
    return check_done("test_pool");
}
