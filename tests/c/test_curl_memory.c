/*
 * test_curl_memory.c - every allocation of whole scrapes fails once, and from
 * then on: the core's, zlib's and libcurl's, which are counted as one. Nothing
 * crashes or leaks, no body is wrong, and a failure is called what it is. And
 * without failures: what is held does not grow.
 */
#define _DEFAULT_SOURCE 1

#include "alloc.h"
#include "faultserver.h"
#include "sgc_scrape.h"

#include <curl/curl.h>
#include <math.h>

/* ------------------------------------------------------- libcurl's allocator */

static void *curl_malloc(size_t size)
{
    return alloc_alloc(NULL, size);
}

static void curl_release(void *ptr)
{
    if (ptr)
        alloc_release(NULL, ptr);
}

static void *curl_resize(void *ptr, size_t size)
{
    return ptr ? alloc_resize(NULL, ptr, size) : alloc_alloc(NULL, size);
}

static void *curl_zeroed(size_t count, size_t size)
{
    void *ptr = alloc_alloc(NULL, count * size);

    return ptr ? memset(ptr, 0, count * size) : NULL;
}

static char *curl_copy(const char *text)
{
    char *copy = alloc_alloc(NULL, strlen(text) + 1);

    return copy ? memcpy(copy, text, strlen(text) + 1) : NULL;
}

/* ------------------------------------------------------------------- scrapes */

static sgc_str str(const char *text)
{
    return (sgc_str){text, strlen(text)};
}

/* What is scraped: twice, so that the second finds what the first left, or meets it. */
static struct scene {
    const char *scheme, *host, *path;
    sgc_reason expected; /* where there is memory */
    bool more;           /* headers, credentials and a guard */
    uint16_t port;       /* 0: the server's */
    bool together;       /* both at once */
} scene;

static sgc_endpoint *endpoint_make(void)
{
    static const sgc_header headers[] = {{{"X-One", 5}, {"1", 1}}, {{"X-Two", 5}, {"2", 1}}};
    sgc_endpoint_options options;
    sgc_endpoint *endpoint = NULL;
    sgc_failure failure;
    char url[200];

    snprintf(url, sizeof url, "%s://%s:%u%s", scene.scheme, scene.host, scene.port ? scene.port : server.port,
             scene.path);
    sgc_endpoint_options_init(&options);
    options.url = str(url);
    options.timeout = 20;
    options.verify = false;
    if (scene.more) {
        options.headers = headers;
        options.n_headers = 2;
        options.user_agent = str("test/1");
        options.basic_user = str("user");
        options.basic_password = str("password");
    }
    if (sgc_endpoint_new(&options, &endpoint, &failure, NULL) == SGC_OK && !endpoint)
        CHECK_MSG(failure.reason == SGC_REASON_OUT_OF_MEMORY, "%s: %s", url, failure.what);
    return endpoint;
}

static sgc_scraper *scraper_make(void)
{
    sgc_scraper_options options;
    sgc_scraper *scraper = NULL;
    sgc_str entries[] = {str("127.0.0.0/8:1-65535"), str("[::1]:1-65535"), str("localhost:1-65535")};

    sgc_scraper_options_init(&options);
    options.max_connections = 2;
    if (scene.more && sgc_guard_new(entries, 3, &options.guard, NULL) != SGC_OK)
        return NULL;
    sgc_scraper_new(&options, &scraper, NULL);
    sgc_guard_free(options.guard);
    return scraper;
}

static sgc_plan *plan_make(void)
{
    sgc_str prefix = str(""), name = str("a");
    sgc_extract extract = {.kind = SGC_KIND_VALUE, .names = &name, .n_names = 1};
    sgc_plan *plan = NULL;

    if (sgc_plan_new(&prefix, 1, &plan, NULL) == SGC_OK && sgc_plan_add(plan, &extract, NULL) != SGC_OK) {
        sgc_plan_free(plan);
        plan = NULL;
    }
    return plan;
}

/* The next that is over; NULL: none is under way, or there is no memory. */
static sgc_result *wait_for_one(sgc_scraper *scraper)
{
    sgc_result *result = NULL;
    sgc_error err;
    size_t n = 0;

    while (n == 0 && sgc_scraper_pending(scraper))
        if (sgc_scraper_wait(scraper, 10000, &result, 1, &n, &err) != SGC_OK) {
            CHECK(err.code == SGC_NOMEM);
            return NULL;
        }
    return result;
}

static moment submitted_at;

/* Submits it so many times at once. */
static bool submit(sgc_scraper *scraper, sgc_endpoint *endpoint, sgc_plan *plan, size_t n)
{
    sgc_endpoint *endpoints[] = {endpoint, endpoint};
    sgc_error err;
    uint64_t first;

    submitted_at = this_moment();
    bool submitted = sgc_scraper_submit_all(scraper, endpoints, n, plan, &first, &err) == SGC_OK;

    CHECK(submitted || err.code == SGC_NOMEM);
    return submitted;
}

static sgc_result *scrape(sgc_scraper *scraper, sgc_endpoint *endpoint, sgc_plan *plan)
{
    return submit(scraper, endpoint, plan, 1) ? wait_for_one(scraper) : NULL;
}

/* A look-up runs in a thread of libcurl's, and where memory failed there and is
 * back since, nothing tells that from a name that has no address; or, where it
 * failed at one of two addresses, from nobody who listens there. */
static bool may_be_called(sgc_reason reason)
{
    bool of_a_name = reason == SGC_REASON_RESOLVE_FAILED || reason == SGC_REASON_CONNECT_FAILED;

    return reason == SGC_REASON_OUT_OF_MEMORY ||
           (of_a_name && !alloc_fail_on && strcmp(scene.host, "localhost") == 0);
}

static bool is_expected(const sgc_result *result)
{
    if (!result)
        return false;
    CHECK_MSG(undisturbed(submitted_at) < 4, "%s waits when allocation %ld fails", scene.path, alloc_fail_at);
    if (result->failure.reason != scene.expected) {
        CHECK_MSG(may_be_called(result->failure.reason), "%s when allocation %ld fails: %s", scene.path,
                  alloc_fail_at, result->failure.what);
        return false;
    }
    CHECK(scene.expected != SGC_REASON_NONE ||
          (result->body_len == 4 && memcmp(result->body, "a 1\n", 4) == 0 &&
           sgc_fold_slot(result->fold, 0)->value == 1));
    return true;
}

/* Two scrapes, one after the other, or both at once. */
static bool scraped_twice(void)
{
    sgc_scraper *scraper = scraper_make();
    sgc_plan *plan = plan_make();
    sgc_endpoint *endpoint = endpoint_make();
    bool good = scraper && plan && endpoint && (!scene.together || submit(scraper, endpoint, plan, 2));

    for (int i = 0; i < 2 && (good || (scene.together && scraper && sgc_scraper_pending(scraper))); i++) {
        sgc_result *result = scene.together ? wait_for_one(scraper) : scrape(scraper, endpoint, plan);
        good = is_expected(result) && good;
        sgc_result_free(result);
    }
    sgc_endpoint_free(endpoint);
    sgc_plan_free(plan);
    sgc_scraper_free(scraper);
    return good;
}

/* Scrape after scrape over one scraper holds what the first few did. Newer
 * libcurls hold a block more at one time than at another: again, and not always. */
static void scrapes_hold_no_more(void)
{
    enum { FIRST = 20, MORE = 200, MOST = 2000 };
    sgc_scraper *scraper = scraper_make();
    sgc_plan *plan = plan_make();
    sgc_endpoint *endpoint = endpoint_make();
    long before = 0;

    for (int i = 0; i < FIRST + MORE || (i < MOST && atomic_load(&alloc_live) > before); i++) {
        if (i == FIRST)
            before = atomic_load(&alloc_live);
        sgc_result *result = scrape(scraper, endpoint, plan);
        CHECK(is_expected(result));
        sgc_result_free(result);
    }
    CHECK_MSG(atomic_load(&alloc_live) <= before, "%s: %ld blocks more", scene.path,
              atomic_load(&alloc_live) - before);
    sgc_endpoint_free(endpoint);
    sgc_plan_free(plan);
    sgc_scraper_free(scraper);
}

static uint16_t unused_port(void)
{
    uint16_t port = 0;

    close(bind_to(&port));
    return port;
}

/* Hangs up at the first byte, as no TLS server does. */
static void *rude_main(void *arg)
{
    int listener = (int)(intptr_t)arg, fd;
    char byte;

    while ((fd = accept(listener, NULL, NULL)) >= 0) {
        while (recv(fd, &byte, 1, 0) < 0 && errno == EINTR)
            ;
        close(fd);
    }
    return NULL;
}

int main(void)
{
    uint16_t nobody = unused_port(), rude = 0;
    int listener = bind_to(&rude);
    pthread_t thread;
    const struct scene scenes[] = {
        {"http", "127.0.0.1", "/gzip", SGC_REASON_NONE, false, 0, false},
        {"http", "127.0.0.1", "/gzip", SGC_REASON_NONE, false, 0, true},
        {"http", "localhost", "/to-the-end", SGC_REASON_NONE, false, 0, false},
        {"http", "localhost", "/once", SGC_REASON_NONE, true, 0, false},
        {"http", "127.0.0.1", "/both", SGC_REASON_NONE, true, 0, false},
        {"http", "127.0.0.1", "/503", SGC_REASON_HTTP_STATUS, false, 0, false},
        {"http", "127.0.0.1", "/bad-chunk", SGC_REASON_FRAMING, false, 0, false},
        {"http", "127.0.0.1", "/cut-gzip", SGC_REASON_TRUNCATED, false, 0, false},
        {"http", "127.0.0.1", "/malformed", SGC_REASON_MALFORMED, false, 0, false},
        {"http", "127.0.0.1", "/empty", SGC_REASON_EMPTY_REPLY, false, 0, false},
        {"http", "127.0.0.1", "/cut", SGC_REASON_TRUNCATED, false, 0, false},
        {"http", "127.0.0.1", "/header-line", SGC_REASON_HEADERS_TOO_LARGE, false, 0, false},
        {"http", "127.0.0.1", "/page", SGC_REASON_CONNECT_FAILED, false, nobody, false},
        {"https", "127.0.0.1", "/page", SGC_REASON_TLS_HANDSHAKE, false, rude, false},
    };
    long points = 0;

    alloc_install();
    CHECK(curl_global_init_mem(CURL_GLOBAL_DEFAULT, curl_malloc, curl_release, curl_resize, curl_copy,
                               curl_zeroed) == CURLE_OK);
    server_start();
    listen(listener, 1024);
    pthread_create(&thread, NULL, rude_main, (void *)(intptr_t)listener);
    for (size_t i = 0; i < sizeof scenes / sizeof *scenes; i++) {
        memcpy(&scene, &scenes[i], sizeof scene);
        CHECK_MSG(scraped_twice(), "%s", scene.path); /* what libcurl makes once and keeps */
        scrapes_hold_no_more();
        points += alloc_sweep(scene.path, scraped_twice);
    }
    shutdown(listener, SHUT_RDWR);
    pthread_join(thread, NULL);
    close(listener);
    server_stop();
    printf("test_curl_memory: %ld failing allocations\n", points);
    return check_done("test_curl_memory");
}
