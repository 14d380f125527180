/*
 * test_poller.c - which sockets are ready, by epoll or by poll().
 */
#define _DEFAULT_SOURCE 1

#include <pthread.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "alloc.h"
#include "check.h"
#include "poller.h"

static double now(void)
{
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

/* A pair of connected sockets, of which the first is watched. */
static void pair_open(sgc__poller *poller, int pair[2])
{
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    CHECK(sgc__poller_expect(poller, pair[0], 0));
}

static void pair_close(sgc__poller *poller, int pair[2])
{
    sgc__poller_forget(poller, pair[0]);
    close(pair[0]);
    close(pair[1]);
}

static void say(int fd)
{
    CHECK(write(fd, "x", 1) == 1);
}

static void hear(int fd)
{
    char byte;

    CHECK(read(fd, &byte, 1) == 1);
}

static void what_is_wanted_of_a_socket_is_told_with_its_owner(void)
{
    sgc__poller poller;
    sgc__ready ready[4];
    int pair[2];

    CHECK(sgc__poller_init(&poller));
    pair_open(&poller, pair);
    CHECK(sgc__poller_watch(&poller, pair[0], 7, SGC__POLL_IN));
    CHECK(sgc__poller_wait(&poller, 0, ready, 4) == 0);
    say(pair[1]);
    CHECK(sgc__poller_wait(&poller, 1000, ready, 4) == 1);
    CHECK(ready[0].fd == pair[0] && ready[0].owner == 7 && ready[0].events == SGC__POLL_IN);
    CHECK(sgc__poller_watch(&poller, pair[0], 8, SGC__POLL_IN | SGC__POLL_OUT));
    CHECK(sgc__poller_wait(&poller, 1000, ready, 4) == 1);
    CHECK(ready[0].owner == 8 && ready[0].events == (SGC__POLL_IN | SGC__POLL_OUT));
    hear(pair[0]);
    CHECK(sgc__poller_wait(&poller, 1000, ready, 4) == 1 && ready[0].events == SGC__POLL_OUT);
    pair_close(&poller, pair);
    CHECK(sgc__poller_wait(&poller, 0, ready, 4) == 0);
    sgc__poller_free(&poller);
}

static void a_socket_that_failed_is_ready_for_all_that_was_wanted(void)
{
    sgc__poller poller;
    sgc__ready ready[4];
    int pair[2];

    CHECK(sgc__poller_init(&poller));
    pair_open(&poller, pair);
    CHECK(sgc__poller_watch(&poller, pair[0], 0, SGC__POLL_IN | SGC__POLL_OUT));
    close(pair[1]);
    pair[1] = dup(0);
    CHECK(sgc__poller_wait(&poller, 1000, ready, 4) == 1);
    CHECK(ready[0].events == (SGC__POLL_IN | SGC__POLL_OUT));
    pair_close(&poller, pair);
    sgc__poller_free(&poller);
}

/* A kept connection: it is asked for nothing, and then again. */
static void a_socket_that_nothing_is_wanted_of_is_silent_till_something_is(void)
{
    sgc__poller poller;
    sgc__ready ready[4];
    int pair[2];

    CHECK(sgc__poller_init(&poller));
    pair_open(&poller, pair);
    for (int i = 0; i < 3; i++) {
        CHECK(sgc__poller_watch(&poller, pair[0], 1, SGC__POLL_IN));
        CHECK(sgc__poller_wait(&poller, 0, ready, 4) == 0);
        CHECK(sgc__poller_watch(&poller, pair[0], 1, 0));
        say(pair[1]);
        double began = now();
        CHECK(sgc__poller_wait(&poller, 0, ready, 4) == 0);
        CHECK(sgc__poller_wait(&poller, 50, ready, 4) == 0);
        CHECK(now() - began > 0.045); /* it does not wake again and again */
        CHECK(sgc__poller_watch(&poller, pair[0], 1, SGC__POLL_IN));
        CHECK(sgc__poller_wait(&poller, 1000, ready, 4) == 1);
        hear(pair[0]);
    }
    pair_close(&poller, pair);
    sgc__poller_free(&poller);
}

/* The number of a socket that was closed is the next one's. */
static void a_new_socket_has_nothing_of_the_old_one_of_its_number(void)
{
    sgc__poller poller;
    sgc__ready ready[4];
    int pair[2], first;

    CHECK(sgc__poller_init(&poller));
    pair_open(&poller, pair);
    first = pair[0];
    CHECK(sgc__poller_watch(&poller, pair[0], 1, SGC__POLL_IN));
    CHECK(sgc__poller_watch(&poller, pair[0], 1, 0));
    pair_close(&poller, pair);
    pair_open(&poller, pair);
    CHECK(pair[0] == first);
    say(pair[1]);
    CHECK(sgc__poller_wait(&poller, 0, ready, 4) == 0);
    CHECK(sgc__poller_watch(&poller, pair[0], 2, SGC__POLL_IN));
    CHECK(sgc__poller_wait(&poller, 1000, ready, 4) == 1 && ready[0].owner == 2);
    pair_close(&poller, pair);
    sgc__poller_free(&poller);
}

/* A socket's end is heard of though a forked child has it as well. */
static void a_child_that_has_the_socket_too_does_not_keep_it_ready(void)
{
    sgc__poller poller;
    sgc__ready ready[4];
    int pair[2], hold[2];

    CHECK(sgc__poller_init(&poller) && pipe(hold) == 0);
    pair_open(&poller, pair);
    CHECK(sgc__poller_watch(&poller, pair[0], 1, SGC__POLL_IN));
    CHECK(sgc__poller_watch(&poller, pair[0], 1, 0));
    pid_t child = fork();
    if (child == 0) {
        char byte;
        close(hold[1]);
        _exit(read(hold[0], &byte, 1) != 0);
    }
    say(pair[1]);
    pair_close(&poller, pair);
    double began = now();
    CHECK(sgc__poller_wait(&poller, 50, ready, 4) == 0);
    CHECK(now() - began > 0.045);
    close(hold[0]);
    close(hold[1]);
    waitpid(child, NULL, 0);
    sgc__poller_free(&poller);
}

static void every_ready_socket_has_its_turn(void)
{
    enum { PAIRS = 100, EACH = 7 };
    static int pairs[PAIRS][2];
    sgc__poller poller;
    sgc__ready ready[EACH];
    int heard = 0;
    size_t n;

    CHECK(sgc__poller_init(&poller));
    for (uint32_t i = 0; i < PAIRS; i++) {
        pair_open(&poller, pairs[i]);
        CHECK(sgc__poller_watch(&poller, pairs[i][0], i, SGC__POLL_IN));
        say(pairs[i][1]);
    }
    while ((n = sgc__poller_wait(&poller, 0, ready, EACH))) {
        CHECK(n <= EACH);
        for (size_t i = 0; i < n; i++, heard++) {
            CHECK(ready[i].fd == pairs[ready[i].owner][0]);
            hear(ready[i].fd);
        }
    }
    CHECK(heard == PAIRS);
    for (int i = 0; i < PAIRS; i += 2) /* out of the middle */
        pair_close(&poller, pairs[i]);
    for (int i = 1; i < PAIRS; i += 2) {
        say(pairs[i][1]);
        CHECK(sgc__poller_wait(&poller, 1000, ready, EACH) == 1 && ready[0].owner == (uint32_t)i);
        pair_close(&poller, pairs[i]);
    }
    sgc__poller_free(&poller);
}

static void *waker(void *poller)
{
    usleep(20000);
    sgc__poller_wake(poller);
    return NULL;
}

static void a_wait_ends_with_its_time_or_when_it_is_woken(void)
{
    sgc__poller poller;
    sgc__ready ready[4];
    pthread_t thread;
    double began = now();

    CHECK(sgc__poller_init(&poller));
    CHECK(sgc__poller_wait(&poller, 30, ready, 4) == 0 && now() - began > 0.025);
    pthread_create(&thread, NULL, waker, &poller);
    began = now();
    CHECK(sgc__poller_wait(&poller, 60000, ready, 4) == 0 && now() - began < 50);
    pthread_join(thread, NULL);
    for (int i = 0; i < 100000; i++) /* more than a pipe takes */
        sgc__poller_wake(&poller);
    began = now();
    CHECK(sgc__poller_wait(&poller, 60000, ready, 4) == 0 && now() - began < 50);
    sgc__poller_free(&poller);
}

static bool watches(void)
{
    sgc__poller poller;
    int pair[2] = {-1, -1};
    bool ok = sgc__poller_init(&poller);

    if (!ok)
        return false;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    ok = sgc__poller_expect(&poller, pair[0], 0) && sgc__poller_watch(&poller, pair[0], 0, SGC__POLL_IN);
    if (ok)
        sgc__poller_forget(&poller, pair[0]);
    close(pair[0]);
    close(pair[1]);
    sgc__poller_free(&poller);
    return ok;
}

static void a_failed_allocation_is_told(void)
{
    alloc_install();
    alloc_sweep("a poller", watches);
    sgc_allocator_set(NULL);
}

int main(void)
{
    what_is_wanted_of_a_socket_is_told_with_its_owner();
    a_socket_that_failed_is_ready_for_all_that_was_wanted();
    a_socket_that_nothing_is_wanted_of_is_silent_till_something_is();
    a_new_socket_has_nothing_of_the_old_one_of_its_number();
    a_child_that_has_the_socket_too_does_not_keep_it_ready();
    every_ready_socket_has_its_turn();
    a_wait_ends_with_its_time_or_when_it_is_woken();
    a_failed_allocation_is_told();
    return check_done("test_poller");
}
