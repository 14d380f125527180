/*
 * reader.c - what reader.py measures in C: the limits that the machine sets, and
 * the core without Python. Compiled with the core's own files and with plan.inc,
 * the SGLang catalogue's plan, which reader.py writes:
 *
 *     static const sgc_str prefixes[];
 *     static const sgc_extract extracts[];
 */
#define _POSIX_C_SOURCE 200809L

#include "sgc.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define S(text) {(text), sizeof(text) - 1}
#include "plan.inc"

#define EXPORT __attribute__((visibility("default")))

/* A page and what it is read with. `pages` are two of the same lines, whose
 * values all differ; the caller keeps them. */
typedef struct bench {
    const char *pages[2];
    size_t lens[2];
    char *copy;
    size_t n_lines;
    sgc_options options;
    sgc_plan *plan;
    sgc_steady *steady;
    int turn; /* which of the pages the steady reader gets next */
} bench;

/* ------------------------------------------------------------------- tasks */

/* Each does its work once; false where it did not come out as it should. */

static bool copy_bytes(bench *b)
{
    memcpy(b->copy, b->pages[0], b->lens[0]);
    return true;
}

static size_t count_lines(const char *p, const char *end)
{
    size_t n = 0;

    while (p < end && (p = memchr(p, '\n', (size_t)(end - p))) != NULL)
        p++, n++;
    return n;
}

static bool walk_lines(bench *b)
{
    return count_lines(b->pages[0], b->pages[0] + b->lens[0]) == b->n_lines;
}

static bool read_page(bench *b)
{
    sgc_page *page;
    sgc_status status = sgc_page_parse(b->pages[0], b->lens[0], &b->options, &page, NULL);

    sgc_page_free(page);
    return status == SGC_OK;
}

static bool fold_page(bench *b)
{
    sgc_fold *fold;
    sgc_status status = sgc_plan_fold(b->plan, b->pages[0], b->lens[0], &b->options, &fold, NULL);

    sgc_fold_free(fold);
    return status == SGC_OK;
}

static bool fold_turn(bench *b, sgc_steady *steady, int turn, bool known)
{
    sgc_fold *fold;
    sgc_status status = sgc_steady_fold(steady, b->pages[turn], b->lens[turn], &b->options, &fold, NULL);

    sgc_fold_free(fold);
    return status == SGC_OK && sgc_steady_hit(steady) == known;
}

static bool fold_known(bench *b)
{
    b->turn = !b->turn;
    return fold_turn(b, b->steady, b->turn, true);
}

/* The first page of a target. */
static bool fold_learning(bench *b)
{
    sgc_steady *steady;
    bool done = sgc_steady_new(b->plan, &steady, NULL) == SGC_OK && fold_turn(b, steady, 0, false);

    sgc_steady_free(steady);
    return done;
}

typedef bool task(bench *b);

static const struct {
    const char *name;
    task *run;
} tasks[] = {
    {"copy", copy_bytes}, {"walk", walk_lines},   {"read", read_page},
    {"fold", fold_page},  {"steady", fold_known}, {"learn", fold_learning},
};

/* NULL: there is none of that name. */
static task *task_find(const char *name)
{
    for (size_t i = 0; i < sizeof tasks / sizeof *tasks; i++)
        if (strcmp(tasks[i].name, name) == 0)
            return tasks[i].run;
    return NULL;
}

/* ------------------------------------------------------------------ making */

EXPORT void bench_free(bench *b)
{
    sgc_steady_free(b->steady);
    sgc_plan_free(b->plan);
    free(b->copy);
    free(b);
}

static bool plan_make(bench *b)
{
    if (sgc_plan_new(prefixes, sizeof prefixes / sizeof *prefixes, &b->plan, NULL) != SGC_OK)
        return false;
    for (size_t i = 0; i < sizeof extracts / sizeof *extracts; i++)
        if (sgc_plan_add(b->plan, &extracts[i], NULL) != SGC_OK)
            return false;
    return true;
}

/* NULL where the pages cannot be read, or are no two pages of the same lines. */
EXPORT bench *bench_new(const char *page, size_t len, const char *later, size_t later_len)
{
    bench *b = calloc(1, sizeof *b);

    if (!b)
        return NULL;
    *b = (bench){.pages = {page, later}, .lens = {len, later_len}, .copy = malloc(len)};
    b->n_lines = count_lines(page, page + len);
    sgc_options_init(&b->options);
    if (b->copy && plan_make(b) && sgc_steady_new(b->plan, &b->steady, NULL) == SGC_OK &&
        fold_turn(b, b->steady, 0, false) && fold_known(b) && fold_known(b))
        return b;
    bench_free(b);
    return NULL;
}

/* --------------------------------------------------------------- measuring */

static double cpu_seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Seconds of this thread's CPU that `times` runs of a task take; below 0 where one failed. */
EXPORT double bench_run(bench *b, const char *name, size_t times)
{
    task *run = task_find(name);
    double start = cpu_seconds();

    for (size_t i = 0; i < times; i++)
        if (!run || !run(b))
            return -1;
    return cpu_seconds() - start;
}

/* How many slots of the plan the page fills. */
EXPORT size_t bench_slots(bench *b)
{
    sgc_fold *fold;
    size_t n = 0;

    if (sgc_plan_fold(b->plan, b->pages[0], b->lens[0], &b->options, &fold, NULL) != SGC_OK)
        return 0;
    for (size_t i = 0; i < sgc_fold_n_slots(fold); i++)
        n += sgc_fold_slot(fold, i)->kind != SGC_SLOT_ABSENT;
    sgc_fold_free(fold);
    return n;
}

/* ------------------------------------------------------------------ memory */

enum { HEADER = 16 }; /* holds the size of a block, and keeps it aligned */

typedef struct {
    size_t now;
    size_t most;
} usage;

static void *counted_resize(void *ctx, void *ptr, size_t size)
{
    usage *used = ctx;
    char *block = ptr ? (char *)ptr - HEADER : NULL;
    size_t before = 0;

    if (block)
        memcpy(&before, block, sizeof before);
    block = realloc(block, size + HEADER);
    if (!block)
        return NULL;
    memcpy(block, &size, sizeof size);
    used->most = used->now + size > used->most ? used->now + size : used->most;
    used->now += size - before;
    return block + HEADER;
}

static void *counted_alloc(void *ctx, size_t size)
{
    return counted_resize(ctx, NULL, size);
}

static void counted_release(void *ctx, void *ptr)
{
    usage *used = ctx;
    char *block = (char *)ptr - HEADER;
    size_t size;

    memcpy(&size, block, sizeof size);
    used->now -= size;
    free(block);
}

/* The most bytes that a task which frees all it allocates holds at once, where a
 * block that grows is copied; 0 where it failed. */
EXPORT size_t bench_peak(bench *b, const char *name)
{
    usage used = {0, 0};
    sgc_allocator counted = {counted_alloc, counted_resize, counted_release, &used};
    task *run = task_find(name);
    bool done;

    sgc_allocator_set(&counted);
    done = run && run(b);
    sgc_allocator_set(NULL);
    return done && used.now == 0 ? used.most : 0;
}
