/*
 * test_soak.c - `test_soak [SCRAPES] [THREADS]`: scrapes without end, good and
 * failing, and nothing is left of them: no byte of the core's or of libcurl's,
 * which are counted apart, no descriptor, no thread, no growing heap. The
 * server is another process.
 *
 * A thread has two scrapers. One is kept from the first scrape to the last and
 * asks for one page after another, so that at every look it holds exactly one
 * connection and exactly as much as before. The other is new in every round
 * and asks for all of them at once.
 */
#define _DEFAULT_SOURCE 1

#include "faultserver.h"
#include "sgc_scrape.h"

#include <curl/curl.h>
#include <dirent.h>
#include <malloc.h>
#include <stddef.h>
#include <sys/wait.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SCRAPES 20000
#else
#define SCRAPES 300000
#endif

/* ------------------------------------------------------------------ counting */

static atomic_long core_bytes, curl_bytes;

/* What stands before every block: how long it is. */
typedef union head {
    size_t len;
    max_align_t aligned;
} head;

static void *counted_alloc(void *ctx, size_t len)
{
    head *block = malloc(sizeof *block + len);

    if (!block)
        return NULL;
    block->len = len;
    atomic_fetch_add((atomic_long *)ctx, (long)len);
    return block + 1;
}

static void counted_release(void *ctx, void *ptr)
{
    if (!ptr)
        return;
    head *block = (head *)ptr - 1;
    atomic_fetch_sub((atomic_long *)ctx, (long)block->len);
    free(block);
}

static void *counted_resize(void *ctx, void *ptr, size_t len)
{
    void *other = counted_alloc(ctx, len);

    if (other && ptr) {
        size_t before = ((head *)ptr - 1)->len;
        memcpy(other, ptr, before < len ? before : len);
        counted_release(ctx, ptr);
    }
    return other;
}

static void *curl_counted(size_t len)
{
    return counted_alloc(&curl_bytes, len);
}

static void curl_release(void *ptr)
{
    counted_release(&curl_bytes, ptr);
}

static void *curl_resize(void *ptr, size_t len)
{
    return counted_resize(&curl_bytes, ptr, len);
}

static void *curl_zeroed(size_t count, size_t len)
{
    void *ptr = counted_alloc(&curl_bytes, count * len);

    return ptr ? memset(ptr, 0, count * len) : NULL;
}

static char *curl_copy(const char *text)
{
    size_t len = strlen(text) + 1;
    void *ptr = counted_alloc(&curl_bytes, len);

    return ptr ? memcpy(ptr, text, len) : NULL;
}

static void count_all(void)
{
    static const sgc_allocator allocator = {counted_alloc, counted_resize, counted_release, &core_bytes};

    sgc_allocator_set(&allocator);
    CHECK(curl_global_init_mem(CURL_GLOBAL_DEFAULT, curl_counted, curl_release, curl_resize, curl_copy,
                               curl_zeroed) == CURLE_OK);
}

/* --------------------------------------------------------------------- looks */

typedef struct look {
    long core, curl, heap, descriptors, threads;
} look;

static long entries(const char *path)
{
    DIR *folder = opendir(path);
    long n = 0;

    while (folder && readdir(folder))
        n++;
    if (folder)
        closedir(folder);
    return n;
}

static look look_now(void)
{
    struct mallinfo2 info = mallinfo2();

    return (look){.core = atomic_load(&core_bytes),
                  .curl = atomic_load(&curl_bytes),
                  .heap = (long)(info.uordblks + info.hblkhd),
                  .descriptors = entries("/proc/self/fd"),
                  .threads = entries("/proc/self/task")};
}

/* ------------------------------------------------------------------- scrapes */

static const struct {
    const char *path;
    sgc_reason reason;
} asked[] = {
    {"/id/1", SGC_REASON_NONE},           {"/page", SGC_REASON_NONE},
    {"/chunked", SGC_REASON_NONE},        {"/gzip", SGC_REASON_NONE},
    {"/404", SGC_REASON_HTTP_STATUS},     {"/id/2", SGC_REASON_NONE},
    {"/page", SGC_REASON_NONE},           {"/malformed", SGC_REASON_MALFORMED},
    {"/id/3", SGC_REASON_NONE},           {"/cut", SGC_REASON_TRUNCATED},
    {"/page", SGC_REASON_NONE},           {"/bad-chunk", SGC_REASON_FRAMING},
    {"/gzip", SGC_REASON_NONE},           {"/redirect", SGC_REASON_REDIRECT},
    {"/html", SGC_REASON_NOT_EXPOSITION}, {"/page", SGC_REASON_NONE},
};

enum { ASKED = sizeof asked / sizeof *asked, ROUNDS = 20, MOST_THREADS = 64 };

static sgc_str str(const char *text)
{
    return (sgc_str){text, strlen(text)};
}

static sgc_scraper *scraper_new(void)
{
    sgc_scraper_options options;
    sgc_scraper *scraper = NULL;

    sgc_scraper_options_init(&options);
    options.max_connections = ASKED;
    CHECK(sgc_scraper_new(&options, &scraper, NULL) == SGC_OK);
    return scraper;
}

static sgc_plan *plan_new(void)
{
    sgc_str prefix = str(""), name = str("a");
    sgc_extract extract = {.kind = SGC_KIND_VALUE, .names = &name, .n_names = 1};
    sgc_plan *plan = NULL;

    CHECK(sgc_plan_new(&prefix, 1, &plan, NULL) == SGC_OK && sgc_plan_add(plan, &extract, NULL) == SGC_OK);
    return plan;
}

static sgc_endpoint *endpoint_new(const char *path)
{
    sgc_endpoint_options options;
    sgc_endpoint *endpoint = NULL;
    sgc_failure failure;
    char url[200];

    snprintf(url, sizeof url, "http://127.0.0.1:%u%s", server.port, path);
    sgc_endpoint_options_init(&options);
    options.url = str(url);
    options.timeout = 300;
    CHECK(sgc_endpoint_new(&options, &endpoint, &failure, NULL) == SGC_OK && endpoint);
    return endpoint;
}

/* What a thread holds from the first scrape to the last. */
typedef struct worker {
    pthread_t thread;
    sgc_scraper *scraper;
    sgc_plan *plan;
    sgc_endpoint *endpoints[ASKED];
    long laps, wrong;
} worker;

static void result_check(worker *worker, size_t k, sgc_result *result)
{
    bool right = k < ASKED && result->failure.reason == asked[k].reason;

    if (right && !asked[k].reason)
        right = sgc_fold_slot(result->fold, 0)->value == 1;
    if (!right && worker->wrong++ == 0)
        fprintf(stderr, "%s: %s\n", k < ASKED ? asked[k].path : "?", result->failure.what);
    sgc_result_free(result);
}

/* Asks for `n` of them from the k-th on, and waits for all. */
static void ask(worker *worker, sgc_scraper *scraper, size_t k, size_t n)
{
    sgc_result *results[ASKED];
    uint64_t ids[ASKED] = {0};

    for (size_t i = k; i < k + n; i++)
        if (sgc_scraper_submit(scraper, worker->endpoints[i], worker->plan, &ids[i], NULL) != SGC_OK)
            worker->wrong++;
    while (sgc_scraper_pending(scraper)) {
        size_t ended = 0;
        if (sgc_scraper_wait(scraper, 10000, results, ASKED, &ended, NULL) != SGC_OK)
            worker->wrong++;
        for (size_t i = 0; i < ended; i++) {
            size_t which = k;
            while (which < ASKED && ids[which] != results[i]->id)
                which++;
            result_check(worker, which, results[i]);
        }
    }
}

/* One round: laps of one after the other, and a lap of all at once for each of them. */
static void *round_main(void *arg)
{
    worker *worker = arg;
    sgc_scraper *other = scraper_new();

    for (long lap = 0; lap < worker->laps; lap++) {
        if (lap % 2 == 1) {
            ask(worker, other, 0, ASKED);
            continue;
        }
        for (size_t k = 0; k < ASKED; k++)
            ask(worker, worker->scraper, k, 1);
    }
    sgc_scraper_free(other);
    return NULL;
}

static void worker_init(worker *worker)
{
    *worker = (struct worker){.scraper = scraper_new(), .plan = plan_new()};
    for (size_t k = 0; k < ASKED; k++)
        worker->endpoints[k] = endpoint_new(asked[k].path);
}

static void worker_free(worker *worker)
{
    for (size_t k = 0; k < ASKED; k++)
        sgc_endpoint_free(worker->endpoints[k]);
    sgc_plan_free(worker->plan);
    sgc_scraper_free(worker->scraper);
}

static void round_run(worker workers[], int threads, long laps)
{
    for (int i = 0; i < threads; i++) {
        workers[i].laps = laps;
        pthread_create(&workers[i].thread, NULL, round_main, &workers[i]);
    }
    for (int i = 0; i < threads; i++)
        pthread_join(workers[i].thread, NULL);
}

/* ---------------------------------------------------------------------- soak */

/* By how much the heap rises from the first of n looks to the last, on the line that fits best. */
static double heap_growth(const look looks[], long n)
{
    double middle = (double)(n - 1) / 2, slope = 0, square = 0;

    for (long i = 0; i < n; i++) {
        slope += ((double)i - middle) * (double)looks[i].heap;
        square += ((double)i - middle) * ((double)i - middle);
    }
    return n > 1 ? slope / square * (double)(n - 1) : 0;
}

/* All but what libc and libcurl may keep more of at one look than at another. */
static bool holds_the_same(const look *first, const look *last)
{
    return last->core == first->core && last->descriptors == first->descriptors &&
           last->threads == first->threads;
}

/* The most that libcurl held at a look before the last. Newer ones hold a block more
 * for a kept connection at one time than at another; what leaks is more every time. */
static long curl_before(const look looks[], long n)
{
    long most = 0;

    for (long i = 0; i < n - 1; i++)
        most = looks[i].curl > most ? looks[i].curl : most;
    return most;
}

static void soak(long scrapes, int threads)
{
    static worker workers[MOST_THREADS];
    look looks[ROUNDS], *first = looks, *last = looks;
    long laps = scrapes / ASKED / threads / ROUNDS, rounds = 0, wrong = 0;

    for (int i = 0; i < threads; i++)
        worker_init(&workers[i]);
    for (int i = 0; i < ROUNDS && holds_the_same(first, last); i++) {
        round_run(workers, threads, laps);
        last = looks + i;
        *last = look_now();
        rounds++;
    }
    for (int i = 0; i < threads; i++) {
        wrong += workers[i].wrong;
        worker_free(&workers[i]);
    }
    printf("%ld scrapes in %d threads: the core holds %+ld bytes, libcurl %+ld, the heap %+.0f, "
           "%+ld descriptors, %+ld threads\n",
           laps * ASKED * threads * rounds, threads, last->core - first->core, last->curl - first->curl,
           heap_growth(looks, rounds), last->descriptors - first->descriptors,
           last->threads - first->threads);
    CHECK_MSG(wrong == 0, "%ld scrapes ended otherwise", wrong);
    CHECK(laps > 1 && first->core > 0 && first->curl > 0);
    CHECK(holds_the_same(first, last));
    CHECK(last->curl <= curl_before(looks, rounds));
    CHECK(heap_growth(looks, rounds) < 16384);
    CHECK(atomic_load(&core_bytes) == 0);
}

/* The server, in a process that ends once `keeps` is closed. */
static pid_t server_fork(int *keeps)
{
    int up[2], down[2];
    char byte;

    CHECK(pipe(up) == 0 && pipe(down) == 0);
    pid_t child = fork();
    if (child == 0) {
        close(down[1]);
        server_start();
        bool told = write(up[1], &server.port, sizeof server.port) == sizeof server.port;
        while (told && read(down[0], &byte, 1) > 0)
            ;
        server_stop();
        _exit(check_failed ? EXIT_FAILURE : EXIT_SUCCESS);
    }
    CHECK(read(up[0], &server.port, sizeof server.port) == sizeof server.port);
    close(up[0]);
    close(up[1]);
    close(down[0]);
    *keeps = down[1];
    return child;
}

int main(int argc, char **argv)
{
    long scrapes = argc > 1 ? atol(argv[1]) : SCRAPES;
    int threads = argc > 2 ? atoi(argv[2]) : 2, keeps, status = 0;
    pid_t child = server_fork(&keeps);

    count_all();
    soak(scrapes, threads < MOST_THREADS ? threads : MOST_THREADS);
    close(keeps);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    return check_done("test_soak");
}
