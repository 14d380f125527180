/*
 * test_pending.c - the bookkeeping behind the loop: scrapes by id and by
 * deadline, and the allowance of look-ups.
 */
#include "alloc.h"
#include "check.h"
#include "handles.h"

enum { MANY = 1000 };

static sgc__transfer transfers[MANY];

/* Numbers that repeat, in no order. */
static int64_t shuffled(size_t i)
{
    return (int64_t)(i * 7919 % MANY / 3);
}

static void scrapes_are_found_by_id(void)
{
    sgc__roster roster = {NULL, 0, 0};

    CHECK(sgc__roster_find(&roster, 1) == NULL);
    for (size_t i = 0; i < MANY; i++) {
        transfers[i].id = i + 1;
        CHECK(sgc__roster_add(&roster, &transfers[i]));
    }
    for (size_t i = 0; i < MANY; i += 2)
        sgc__roster_remove(&roster, &transfers[i]);
    for (size_t i = 0; i < MANY; i++)
        CHECK(sgc__roster_find(&roster, i + 1) == (i % 2 ? &transfers[i] : NULL));
    CHECK(roster.n == MANY / 2 && !sgc__roster_find(&roster, 0) && !sgc__roster_find(&roster, MANY + 1));
    sgc__release(roster.buckets);
}

static void the_first_deadline_comes_first_whatever_is_removed(void)
{
    sgc__heap heap = {NULL, 0, 0};
    size_t left = 0;

    for (size_t i = 0; i < MANY; i++) {
        transfers[i].deadline = shuffled(i);
        CHECK(sgc__heap_add(&heap, &transfers[i]));
    }
    for (size_t i = 0; i < MANY; i += 3) {
        sgc__heap_remove(&heap, &transfers[i]);
        sgc__heap_remove(&heap, &transfers[i]); /* not there any more */
    }
    for (int64_t last = 0; heap.n; left++) {
        CHECK(heap.items[0]->deadline >= last);
        last = heap.items[0]->deadline;
        sgc__heap_remove(&heap, heap.items[0]);
    }
    CHECK(left == MANY - (MANY + 2) / 3);
    sgc__release(heap.items);
}

static void a_look_up_that_is_given_up_is_counted_for_15_seconds(void)
{
    int64_t second = SGC__SECOND;
    sgc__lookups lookups;

    CHECK(sgc__lookups_init(&lookups, 2));
    CHECK(sgc__lookups_free_one(&lookups, 0) && sgc__lookups_next(&lookups) == INT64_MAX);
    lookups.active = 1;
    sgc__lookups_give_up(&lookups, 0);
    CHECK(!sgc__lookups_free_one(&lookups, 0));
    CHECK(sgc__lookups_next(&lookups) == 15 * second);
    CHECK(!sgc__lookups_free_one(&lookups, 15 * second - 1));
    CHECK(sgc__lookups_free_one(&lookups, 15 * second));
    lookups.active = 0;
    for (int64_t at = 20; at < 100; at += 20) { /* around the ring */
        sgc__lookups_give_up(&lookups, at * second);
        sgc__lookups_give_up(&lookups, (at + 1) * second);
        sgc__lookups_give_up(&lookups, (at + 2) * second); /* no room: not counted */
        CHECK(!sgc__lookups_free_one(&lookups, (at + 2) * second));
        CHECK(sgc__lookups_free_one(&lookups, (at + 15) * second) && lookups.n_gone == 1);
        CHECK(sgc__lookups_free_one(&lookups, (at + 16) * second) && lookups.n_gone == 0);
    }
    sgc__release(lookups.gone);
}

static void lists_are_taken_from_in_the_order_they_were_pushed(void)
{
    sgc__link list, more;
    size_t n = 0;

    sgc__list_init(&list);
    sgc__list_init(&more);
    for (size_t i = 0; i < 10; i++) {
        sgc__list_init(&transfers[i].queue);
        transfers[i].id = i;
        sgc__list_push(i < 5 ? &list : &more, &transfers[i].queue);
    }
    sgc__list_remove(&transfers[3].queue);
    sgc__list_remove(&transfers[3].queue);
    sgc__list_move(&list, &more);
    CHECK(sgc__list_empty(&more));
    for (; !sgc__list_empty(&list); n++) {
        sgc__transfer *first = SGC__OF(list.next, sgc__transfer, queue);
        CHECK(first->id == n + (n >= 3));
        sgc__list_remove(&first->queue);
    }
    CHECK(n == 9);
}

static bool added(void)
{
    sgc__roster roster = {NULL, 0, 0};
    sgc__heap heap = {NULL, 0, 0};
    bool ok = true;

    for (size_t i = 0; ok && i < 200; i++) {
        transfers[i].id = i + 1;
        ok = sgc__roster_add(&roster, &transfers[i]) && sgc__heap_add(&heap, &transfers[i]);
        CHECK(!ok || sgc__roster_find(&roster, i + 1) == &transfers[i]);
    }
    sgc__release(roster.buckets);
    sgc__release(heap.items);
    return ok;
}

static void every_allocation_failure_is_survived(void)
{
    alloc_install();
    CHECK(alloc_sweep("pending scrapes", added) > 4);
    sgc_allocator_set(NULL);
}

int main(void)
{
    scrapes_are_found_by_id();
    the_first_deadline_comes_first_whatever_is_removed();
    a_look_up_that_is_given_up_is_counted_for_15_seconds();
    lists_are_taken_from_in_the_order_they_were_pushed();
    every_allocation_failure_is_survived();
    return check_done("test_pending");
}
