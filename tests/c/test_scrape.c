/*
 * test_scrape.c - whole scrapes, against a server of raw sockets in this
 * process that behaves well or badly as the path of the URL says.
 */
#define _DEFAULT_SOURCE 1

#include "alloc.h"
#include "check.h"
#include "faultserver.h"
#include "sgc_scrape.h"

#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>

/* ------------------------------------------------------------------ client */

static sgc_str str(const char *text)
{
    return (sgc_str){text, strlen(text)};
}

static void url_of(char url[200], const char *path)
{
    snprintf(url, 200, "http://127.0.0.1:%u%s", server.port, path);
}

static sgc_endpoint *endpoint_at(const char *url, double timeout, uint64_t body_bytes)
{
    sgc_endpoint_options options;
    sgc_endpoint *endpoint = NULL;
    sgc_failure failure;

    sgc_endpoint_options_init(&options);
    options.url = str(url);
    options.timeout = timeout;
    if (body_bytes)
        options.limits.body_bytes = body_bytes;
    if (sgc_endpoint_new(&options, &endpoint, &failure, NULL) == SGC_OK)
        CHECK_MSG(endpoint, "%s: %s", url, failure.what);
    return endpoint;
}

static sgc_endpoint *endpoint_of(const char *path, double timeout)
{
    char url[200];

    url_of(url, path);
    return endpoint_at(url, timeout, 0);
}

static sgc_scraper *scraper_of(unsigned max_connections)
{
    sgc_scraper_options options;
    sgc_scraper *scraper = NULL;

    sgc_scraper_options_init(&options);
    options.max_connections = max_connections;
    sgc_scraper_new(&options, &scraper, NULL);
    return scraper;
}

/* The sum of the samples "a". */
static sgc_plan *plan_new(void)
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

/* Waits for one result, whatever time it takes. */
static sgc_result *wait_one(sgc_scraper *scraper)
{
    sgc_result *result = NULL;
    size_t n = 0;

    while (n == 0 && sgc_scraper_pending(scraper) > 0)
        if (sgc_scraper_wait(scraper, 10000, &result, 1, &n, NULL) != SGC_OK)
            return NULL;
    return result;
}

static sgc_result *scrape(sgc_scraper *scraper, sgc_endpoint *endpoint, sgc_plan *plan)
{
    uint64_t id;

    if (sgc_scraper_submit(scraper, endpoint, plan, &id, NULL) != SGC_OK)
        return NULL;
    return wait_one(scraper);
}

static sgc_result *scrape_path(sgc_scraper *scraper, const char *path, double timeout)
{
    sgc_endpoint *endpoint = endpoint_of(path, timeout);
    sgc_result *result = scrape(scraper, endpoint, NULL);

    sgc_endpoint_free(endpoint);
    return result;
}

static bool is_good(const sgc_result *result)
{
    return result && result->failure.reason == SGC_REASON_NONE && result->body;
}

static bool scrapes_well(sgc_scraper *scraper)
{
    sgc_result *result = scrape_path(scraper, "/page", 60);
    bool good = is_good(result) && result->body_len == 8 && memcmp(result->body, "a 1\nb 2\n", 8) == 0;

    CHECK_MSG(good, "%s", result ? result->failure.what : "no result");
    sgc_result_free(result);
    return good;
}

/* ------------------------------------------------------------------- tests */

/* A timeout of 0.3 s is kept to 0.1 s, and to some more by an analyser. */
#define LATEST 0.6

static void a_page_comes_as_bytes_and_as_the_plan_s_numbers(void)
{
    sgc_scraper *scraper = scraper_of(10);
    sgc_endpoint *endpoint = endpoint_of("/page", 60);
    sgc_plan *plan = plan_new();
    sgc_result *result = scrape(scraper, endpoint, plan);
    const sgc_timings *at = &result->timings;

    CHECK(is_good(result) && result->body_len == 8 && memcmp(result->body, "a 1\nb 2\n", 8) == 0);
    CHECK(result->fold && sgc_fold_slot(result->fold, 0)->value == 1 &&
          sgc_fold_n_samples(result->fold) == 2);
    CHECK(result->id == 1 && result->status == 200 && result->framing == SGC_FRAMING_LENGTH);
    CHECK(result->format == SGC_FORMAT_TEXT && result->wire_bytes == 8 && !result->reused &&
          !result->retried);
    CHECK(fabs(result->started - (double)time(NULL)) < 5);
    CHECK(at->resolved > 0 && at->resolved <= at->connected && at->connected <= at->first_byte &&
          at->tls == 0);
    CHECK(at->first_byte <= at->received && at->received <= at->done && at->done < 60);
    char *body = result->body;
    size_t room = result->body_room;
    result->body = NULL; /* taken out: it outlives the result */
    sgc_result_free(result);
    CHECK(memcmp(body, "a 1\nb 2\n", 8) == 0);
    sgc_body_free(body, room);
    sgc_plan_free(plan);
    sgc_endpoint_free(endpoint);
    sgc_scraper_free(scraper);
}

static void a_connection_is_kept_for_the_next_scrape(void)
{
    sgc_scraper *scraper = scraper_of(10);
    sgc_endpoint *endpoint = endpoint_of("/page", 60);
    int before = atomic_load(&server.accepted);

    for (int i = 0; i < 5; i++) {
        sgc_result *result = scrape(scraper, endpoint, NULL);
        CHECK(is_good(result) && result->reused == (i > 0) && !result->retried);
        sgc_result_free(result);
    }
    CHECK(scrapes_well(scraper)); /* another endpoint at the same host and port */
    CHECK(atomic_load(&server.accepted) == before + 1);
    sgc_endpoint_free(endpoint);
    sgc_scraper_free(scraper);
}

static void chunks_gzip_and_closing_give_the_same_bytes(void)
{
    static const struct {
        const char *path, *body;
        sgc_framing framing;
    } rows[] = {
        {"/chunked", "a 1\nb 2\n", SGC_FRAMING_CHUNKED}, {"/gzip", "a 1\n", SGC_FRAMING_LENGTH},
        {"/to-the-end", "a 1\n", SGC_FRAMING_CLOSE},     {"/both", "a 1\n", SGC_FRAMING_CHUNKED},
        {"/excess", "a 1\n", SGC_FRAMING_LENGTH},
    };
    sgc_scraper *scraper = scraper_of(10);

    for (size_t i = 0; i < 2 * sizeof rows / sizeof *rows; i++) {
        size_t row = i / 2;
        sgc_result *result = scrape_path(scraper, rows[row].path, 60);
        CHECK_MSG(is_good(result) && result->framing == rows[row].framing, "%s: %s", rows[row].path,
                  result->failure.what);
        CHECK(is_good(result) && result->body_len == strlen(rows[row].body) &&
              memcmp(result->body, rows[row].body, result->body_len) == 0);
        sgc_result_free(result);
    }
    sgc_scraper_free(scraper);
}

static void each_fault_has_its_reason_and_leaves_the_scraper_usable(void)
{
    static const struct {
        const char *path;
        sgc_reason reason;
        const char *words;
    } rows[] = {
        {"/cut", SGC_REASON_TRUNCATED, "8 of 1000 bytes"},
        {"/cut-chunk", SGC_REASON_TRUNCATED, "4 bytes"},
        {"/no-last-chunk", SGC_REASON_TRUNCATED, "last chunk"},
        {"/bad-chunk", SGC_REASON_FRAMING, "chunk"},
        {"/cut-line", SGC_REASON_TRUNCATED, "inside line 2"},
        {"/cut-gzip", SGC_REASON_TRUNCATED, "gzip"},
        {"/cut-header", SGC_REASON_FRAMING, "header"},
        {"/empty", SGC_REASON_EMPTY_REPLY, "without an answer"},
        {"/reset", SGC_REASON_RESET, "before an answer"},
        {"/reset-body", SGC_REASON_RESET, "4 of 1000 bytes"},
        {"/reset-chunk", SGC_REASON_RESET, "4 bytes"},
        {"/http09", SGC_REASON_FRAMING, "HTTP/1.x"},
        {"/http9", SGC_REASON_FRAMING, "HTTP/1.x"},
        {"/status9999", SGC_REASON_FRAMING, "HTTP/1.x"},
        {"/two-lengths", SGC_REASON_FRAMING, "Content-Length"},
        {"/negative", SGC_REASON_FRAMING, ""},
        {"/huge-length", SGC_REASON_FRAMING, "Content-Length"},
        {"/over-limit", SGC_REASON_LIMIT, "body_bytes"},
        {"/te-gzip", SGC_REASON_FRAMING, ""},
        {"/br", SGC_REASON_ENCODING, "br"},
        {"/no-colon", SGC_REASON_FRAMING, ""},
        {"/404", SGC_REASON_HTTP_STATUS, "404"},
        {"/101", SGC_REASON_HTTP_STATUS, "101"},
        {"/redirect", SGC_REASON_REDIRECT, "302"},
        {"/html", SGC_REASON_NOT_EXPOSITION, "text/html"},
        {"/endless", SGC_REASON_LIMIT, "body_bytes"},
        {"/endless-chunks", SGC_REASON_LIMIT, "body_bytes"},
        {"/endless-404", SGC_REASON_HTTP_STATUS, "404"},
        {"/trailers", SGC_REASON_HEADERS_TOO_LARGE, ""},
        {"/headers", SGC_REASON_HEADERS_TOO_LARGE, ""},
        {"/header-line", SGC_REASON_HEADERS_TOO_LARGE, ""},
        {"/status-line", SGC_REASON_HEADERS_TOO_LARGE, ""},
        {"/interim", SGC_REASON_HEADERS_TOO_LARGE, ""},
    };
    sgc_scraper *scraper = scraper_of(10);

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        sgc_result *result = scrape_path(scraper, rows[i].path, 60);
        CHECK_MSG(result->failure.reason == rows[i].reason && strstr(result->failure.what, rows[i].words),
                  "%s: %s: %s", rows[i].path, sgc_reason_slug(result->failure.reason), result->failure.what);
        CHECK_MSG(!result->body && !result->fold && result->body_len == 0, "%s", rows[i].path);
        CHECK_MSG(!strstr(result->failure.what, "secret"), "%s", rows[i].path);
        sgc_result_free(result);
        scrapes_well(scraper);
    }
    sgc_scraper_free(scraper);
}

static void a_status_is_told_with_the_wait_the_server_asks_for(void)
{
    static const struct {
        const char *path;
        int status;
        double retry_after;
    } rows[] = {{"/404", 404, NAN}, {"/503", 503, 5}, {"/503-date", 503, 0}, {"/503-junk", 503, NAN}};
    sgc_scraper *scraper = scraper_of(10);
    int before = atomic_load(&server.accepted);

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        sgc_result *result = scrape_path(scraper, rows[i].path, 60);
        CHECK(result->failure.status == rows[i].status && result->status == rows[i].status);
        CHECK_MSG(result->failure.retry_after == rows[i].retry_after ||
                      (isnan(rows[i].retry_after) && isnan(result->failure.retry_after)),
                  "%s: %g", rows[i].path, result->failure.retry_after);
        sgc_result_free(result);
    }
    CHECK(atomic_load(&server.accepted) == before + 1); /* short bodies are read off */
    sgc_scraper_free(scraper);
}

static void a_malformed_page_names_line_and_column(void)
{
    sgc_scraper *scraper = scraper_of(10);
    sgc_endpoint *endpoint = endpoint_of("/malformed", 60);
    sgc_plan *plan = plan_new();
    sgc_result *result = scrape(scraper, endpoint, plan);

    CHECK(result->failure.reason == SGC_REASON_MALFORMED && result->failure.parse.code == SGC_SYNTAX);
    CHECK(result->failure.parse.line == 2 && result->failure.parse.column == 3 && !result->body &&
          !result->fold);
    CHECK_MSG(strstr(result->failure.what, "line 2, column 3") && !strstr(result->failure.what, "secret"),
              "%s", result->failure.what);
    sgc_result_free(result);
    sgc_endpoint_free(endpoint);
    sgc_plan_free(plan);
    sgc_scraper_free(scraper);
}

static void a_limit_of_the_page_is_named(void)
{
    sgc_scraper *scraper = scraper_of(10);
    sgc_plan *plan = plan_new();
    sgc_endpoint_options options;
    sgc_endpoint *endpoint;
    sgc_failure failure;
    char url[200];

    url_of(url, "/page");
    sgc_endpoint_options_init(&options);
    options.url = str(url);
    options.limits.samples = 1;
    sgc_endpoint_new(&options, &endpoint, &failure, NULL);
    sgc_result *result = scrape(scraper, endpoint, plan);
    CHECK(result->failure.reason == SGC_REASON_LIMIT && strcmp(result->failure.parse.limit, "samples") == 0);
    CHECK(result->failure.parse.allowed == 1 && !result->body);
    sgc_result_free(result);
    sgc_endpoint_free(endpoint);

    url_of(url, "/endless");
    endpoint = endpoint_at(url, 60, 100000);
    result = scrape(scraper, endpoint, plan);
    CHECK(result->failure.reason == SGC_REASON_LIMIT &&
          strcmp(result->failure.parse.limit, "body_bytes") == 0);
    CHECK(result->wire_bytes <= 100000 + 16384 && result->failure.parse.allowed == 100000);
    sgc_result_free(result);
    sgc_endpoint_free(endpoint);
    sgc_plan_free(plan);
    sgc_scraper_free(scraper);
}

static void a_closed_port_is_named(void)
{
    sgc_scraper *scraper = scraper_of(10);
    char url[200], place[100];
    uint16_t port = 0;
    int fd = bind_to(&port); /* bound, so that nobody takes it, but closed */

    snprintf(url, sizeof url, "http://127.0.0.1:%u/", port);
    snprintf(place, sizeof place, "connection refused at 127.0.0.1:%u", port);
    sgc_endpoint *endpoint = endpoint_at(url, 60, 0);
    sgc_result *result = scrape(scraper, endpoint, NULL);
    CHECK_MSG(result->failure.reason == SGC_REASON_CONNECT_FAILED && strstr(result->failure.what, place),
              "%s", result->failure.what);
    sgc_result_free(result);
    sgc_endpoint_free(endpoint);
    close(fd);
    sgc_scraper_free(scraper);
}

static void a_timeout_is_kept_and_says_how_far_the_scrape_came(void)
{
    static const struct {
        const char *path;
        sgc_reason reason;
        const char *words;
    } rows[] = {
        {"/silent", SGC_REASON_TIMEOUT_FIRST_BYTE, "0.3 s"},
        {"/drip-head", SGC_REASON_TIMEOUT_FIRST_BYTE, ""},
        {"/drip-body", SGC_REASON_TIMEOUT_BODY, "of 1000 bytes"},
        {"/extension", SGC_REASON_TIMEOUT_BODY, "0 bytes"},
        {"/drip-404", SGC_REASON_HTTP_STATUS, "404"},
    };
    sgc_scraper *scraper = scraper_of(10);

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        moment start = this_moment();
        sgc_result *result = scrape_path(scraper, rows[i].path, 0.3);
        double took = elapsed(start), quick = undisturbed(start);
        for (int more = 20; more && result->failure.reason != rows[i].reason && took - quick > 0.03; more--) {
            sgc_result_free(result); /* it did not come that far: the machine was busy with others */
            start = this_moment();
            result = scrape_path(scraper, rows[i].path, 0.3);
            took = elapsed(start);
            quick = undisturbed(start);
        }
        CHECK_MSG(result->failure.reason == rows[i].reason && strstr(result->failure.what, rows[i].words),
                  "%s: %s: %s", rows[i].path, sgc_reason_slug(result->failure.reason), result->failure.what);
        CHECK_MSG(took >= 0.29 && quick < LATEST && fabs(result->timings.done - took) < 0.05 + (took - quick),
                  "%s: %g", rows[i].path, took);
        sgc_result_free(result);
        scrapes_well(scraper);
    }
    sgc_scraper_free(scraper);
}

/* A listener whose queue is full answers no further connection. */
static void a_timeout_tells_connecting_from_shaking_hands(void)
{
    sgc_scraper *scraper = scraper_of(10);
    char full[200], tls[200];
    uint16_t port = 0;
    int listener = bind_to(&port), fillers[8];

    listen(listener, 0);
    snprintf(full, sizeof full, "http://127.0.0.1:%u/", port);
    snprintf(tls, sizeof tls, "https://127.0.0.1:%u/", server.port); /* waits for more of a request */
    for (size_t i = 0; i < 8; i++) {
        struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(port)};
        addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        CHECK(connect(fillers[i], (struct sockaddr *)&addr, sizeof addr) == 0 || errno == EINPROGRESS);
    }
    for (int i = 0; i < 2; i++) {
        sgc_endpoint *endpoint = endpoint_at(i ? tls : full, 0.3, 0);
        sgc_result *result = scrape(scraper, endpoint, NULL);
        CHECK_MSG(result->failure.reason == (i ? SGC_REASON_TIMEOUT_TLS : SGC_REASON_TIMEOUT_CONNECT), "%s",
                  result->failure.what);
        CHECK(result->timings.done >= 0.29);
        sgc_result_free(result);
        sgc_endpoint_free(endpoint);
    }
    for (size_t i = 0; i < 8; i++)
        close(fillers[i]);
    close(listener);
    sgc_scraper_free(scraper);
}

/* Closed without an answer libcurl asks again by itself, reset it does not. */
static void a_kept_connection_that_died_is_asked_again_once(void)
{
    static const char *const paths[] = {"/once", "/once-reset"};

    for (int i = 0; i < 2; i++) {
        sgc_scraper *scraper = scraper_of(10);
        sgc_endpoint *endpoint = endpoint_of(paths[i], 60);
        sgc_result *result = scrape(scraper, endpoint, NULL);
        int requests = atomic_load(&server.requests), accepted = atomic_load(&server.accepted);
        CHECK(is_good(result) && !result->retried);
        sgc_result_free(result);
        result = scrape(scraper, endpoint, NULL);
        CHECK_MSG(is_good(result) && result->retried && !result->reused, "%s: %s", paths[i],
                  result->failure.what);
        CHECK(atomic_load(&server.requests) == requests + 2 && atomic_load(&server.accepted) == accepted + 1);
        sgc_result_free(result);
        sgc_endpoint_free(endpoint);
        sgc_scraper_free(scraper);
    }
}

static void a_redirect_leads_to_no_second_request(void)
{
    static const char *const paths[] = {"/redirect", "/redirect-once"};
    sgc_scraper *scraper = scraper_of(10);

    for (int i = 0; i < 2; i++) {
        int requests = atomic_load(&server.requests);
        sgc_result *result = scrape_path(scraper, paths[i], 60);
        CHECK(result->failure.reason == SGC_REASON_REDIRECT && !result->body);
        sgc_result_free(result);
        CHECK_MSG(atomic_load(&server.requests) == requests + 1, "%s", paths[i]);
    }
    sgc_scraper_free(scraper);
}

static void several_kept_connections_that_died_cost_two_requests_at_most(void)
{
    enum { KEPT = 4 };
    sgc_scraper *scraper = scraper_of(10);
    sgc_endpoint *endpoint = endpoint_of("/once", 60);
    uint64_t id;

    for (int i = 0; i < KEPT; i++)
        sgc_scraper_submit(scraper, endpoint, NULL, &id, NULL);
    for (int i = 0; i < KEPT; i++)
        sgc_result_free(wait_one(scraper));
    int requests = atomic_load(&server.requests);
    sgc_result *result = scrape(scraper, endpoint, NULL);
    CHECK_MSG(is_good(result) && result->retried, "%s", result->failure.what);
    CHECK(atomic_load(&server.requests) == requests + 2);
    sgc_result_free(result);
    sgc_endpoint_free(endpoint);
    sgc_scraper_free(scraper);
}

static bool was_poisoned(void *i)
{
    return atomic_load(&server.poisoned) > *(int *)i;
}

static void bytes_that_nobody_asked_for_do_not_become_the_next_page(void)
{
    sgc_scraper *scraper = scraper_of(10);
    sgc_endpoint *endpoints[] = {endpoint_of("/late", 60), endpoint_of("/late", 60)};

    for (int i = 0; i < 6; i++) { /* its own connection, and that of another endpoint */
        sgc_result *result = scrape(scraper, endpoints[i / 2 % 2], NULL);
        CHECK(is_good(result) && result->body_len == 4 && memcmp(result->body, "a 1\n", 4) == 0);
        CHECK(!result->reused);
        sgc_result_free(result);
        CHECK(eventually(was_poisoned, &i));
    }
    sgc_endpoint_free(endpoints[0]);
    sgc_endpoint_free(endpoints[1]);
    sgc_scraper_free(scraper);
}

static void endpoints_of_one_server_share_a_connection(void)
{
    sgc_scraper *scraper = scraper_of(10);

    for (int i = 0; i < 6; i++) {
        sgc_result *result = scrape_path(scraper, i % 2 ? "/page" : "/gzip", 60);
        CHECK(is_good(result) && result->reused == (i > 0) && !result->retried);
        sgc_result_free(result);
    }
    sgc_scraper_free(scraper);
}

static void many_scrapes_share_few_connections_and_mix_nothing_up(void)
{
    enum { MANY = 300, FEW = 10 };
    sgc_scraper *scraper = scraper_of(FEW);
    sgc_endpoint *endpoints[MANY];
    uint64_t ids[MANY];
    char path[20];
    int seen[MANY] = {0}, accepted = atomic_load(&server.accepted);

    for (int i = 0; i < MANY; i++) {
        snprintf(path, sizeof path, "/id/%d", i);
        endpoints[i] = endpoint_of(path, 60);
        CHECK(sgc_scraper_submit(scraper, endpoints[i], NULL, &ids[i], NULL) == SGC_OK);
    }
    CHECK(sgc_scraper_pending(scraper) == MANY);
    while (sgc_scraper_pending(scraper)) {
        sgc_result *results[7];
        size_t n;
        CHECK(sgc_scraper_wait(scraper, 10000, results, 7, &n, NULL) == SGC_OK && n <= 7);
        for (size_t k = 0; k < n; k++) {
            char body[100];
            size_t which = 0;
            while (which < MANY && ids[which] != results[k]->id)
                which++;
            CHECK(which < MANY && seen[which]++ == 0);
            snprintf(body, sizeof body, "a{id=\"%zu\"} 1\n", which);
            CHECK(is_good(results[k]) && results[k]->body_len == strlen(body) &&
                  memcmp(results[k]->body, body, strlen(body)) == 0);
            sgc_result_free(results[k]);
        }
    }
    CHECK(atomic_load(&server.accepted) - accepted <= FEW);
    for (int i = 0; i < MANY; i++)
        sgc_endpoint_free(endpoints[i]);
    sgc_scraper_free(scraper);
}

/* More of them than begin in one wave. */
static void silent_targets_hold_up_nobody_that_comes_after_them(void)
{
    enum { MANY = 200 };
    sgc_scraper *scraper = scraper_of(MANY + 1);
    sgc_endpoint *silent = endpoint_of("/silent", 600), *page = endpoint_of("/page", 600);
    sgc_result *result;
    uint64_t id;

    for (int i = 0; i < MANY; i++)
        CHECK(sgc_scraper_submit(scraper, silent, NULL, &id, NULL) == SGC_OK);
    CHECK(sgc_scraper_submit(scraper, page, NULL, &id, NULL) == SGC_OK);
    result = wait_one(scraper);
    CHECK(is_good(result) && result->id == id);
    sgc_result_free(result);
    sgc_endpoint_free(silent);
    sgc_endpoint_free(page);
    sgc_scraper_free(scraper);
}

static void a_scrape_that_waits_for_a_connection_waits_inside_its_deadline(void)
{
    sgc_scraper *scraper = scraper_of(1);
    sgc_endpoint *silent = endpoint_of("/silent", 0.5), *page = endpoint_of("/page", 0.2),
                 *patient = endpoint_of("/page", 60);
    uint64_t first, second, third;
    moment start = this_moment();

    sgc_scraper_submit(scraper, silent, NULL, &first, NULL);
    sgc_scraper_submit(scraper, page, NULL, &second, NULL);
    sgc_scraper_submit(scraper, patient, NULL, &third, NULL);
    sgc_result *result = wait_one(scraper);
    CHECK(result->id == second && result->failure.reason == SGC_REASON_TIMEOUT_CONNECT);
    CHECK_MSG(elapsed(start) >= 0.19 && undisturbed(start) < LATEST, "%g", elapsed(start));
    sgc_result_free(result);
    result = wait_one(scraper);
    CHECK(result->id == first && result->failure.reason == SGC_REASON_TIMEOUT_FIRST_BYTE);
    sgc_result_free(result);
    result = wait_one(scraper);
    CHECK(result->id == third && is_good(result));
    sgc_result_free(result);
    sgc_endpoint_free(silent);
    sgc_endpoint_free(page);
    sgc_endpoint_free(patient);
    sgc_scraper_free(scraper);
}

static void waiting_ends_with_its_time_or_at_once_where_nothing_is_pending(void)
{
    sgc_scraper *scraper = scraper_of(10);
    sgc_endpoint *silent = endpoint_of("/silent", 60);
    sgc_result *result;
    size_t n = 1;
    uint64_t id;
    moment start = this_moment();
    struct timespec before, after;

    CHECK(sgc_scraper_wait(scraper, 10000, &result, 1, &n, NULL) == SGC_OK && n == 0);
    CHECK(undisturbed(start) < 0.1);
    sgc_scraper_submit(scraper, silent, NULL, &id, NULL);
    start = this_moment();
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
    CHECK(sgc_scraper_wait(scraper, 200, &result, 1, &n, NULL) == SGC_OK && n == 0);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
    CHECK_MSG(elapsed(start) >= 0.19 && undisturbed(start) < LATEST, "%g", elapsed(start));
    CHECK((double)(after.tv_sec - before.tv_sec) + (double)(after.tv_nsec - before.tv_nsec) / 1e9 <
          0.05); /* asleep */
    CHECK(sgc_scraper_wait(scraper, 0, &result, 1, &n, NULL) == SGC_OK && n == 0);
    sgc_scraper_free(scraper); /* with a scrape pending */
    sgc_endpoint_free(silent);
}

/* What another thread does to a scraper 100 ms from now. */
typedef struct later {
    sgc_scraper *scraper;
    sgc_endpoint *endpoint;
    uint64_t id;
    int asked; /* WAIT: how often the server was, when it began */
    enum { CANCEL, CANCEL_ALL, WAKE, SUBMIT, WAIT } what;
    sgc_status status;
    pthread_t thread;
} later;

static bool was_asked(void *before)
{
    return atomic_load(&server.requests) > *(int *)before;
}

static void *later_main(void *arg)
{
    later *later = arg;
    sgc_result *result;
    size_t n;

    sleep_ms(100);
    switch (later->what) {
    case CANCEL:
        sgc_scraper_cancel(later->scraper, 12345); /* unknown: ignored */
        sgc_scraper_cancel(later->scraper, later->id);
        sgc_scraper_cancel(later->scraper, later->id);
        break;
    case CANCEL_ALL:
        sgc_scraper_cancel(later->scraper, 0);
        break;
    case WAKE:
        sgc_scraper_wake(later->scraper);
        break;
    case SUBMIT:
        later->status = sgc_scraper_submit(later->scraper, later->endpoint, NULL, &later->id, NULL);
        break;
    case WAIT:
        CHECK(eventually(was_asked, &later->asked));
        later->status = sgc_scraper_wait(later->scraper, 1000, &result, 1, &n, NULL);
        sgc_scraper_cancel(later->scraper, 0);
        break;
    }
    return NULL;
}

static void later_do(later *later)
{
    pthread_create(&later->thread, NULL, later_main, later);
}

static void another_thread_can_cancel_one_scrape_or_all(void)
{
    sgc_scraper *scraper = scraper_of(1);
    sgc_endpoint *silent = endpoint_of("/silent", 60);
    uint64_t first, second; /* one under way, one in the queue */

    sgc_scraper_submit(scraper, silent, NULL, &first, NULL);
    sgc_scraper_submit(scraper, silent, NULL, &second, NULL);
    later one = {.scraper = scraper, .id = second, .what = CANCEL};
    moment start = this_moment();
    later_do(&one);
    sgc_result *result = wait_one(scraper);
    CHECK(result->id == second && result->failure.reason == SGC_REASON_CANCELLED && !result->body);
    CHECK(undisturbed(start) < LATEST);
    sgc_result_free(result);
    pthread_join(one.thread, NULL);
    later all = {.scraper = scraper, .what = CANCEL_ALL};
    later_do(&all);
    result = wait_one(scraper);
    CHECK(result->id == first && result->failure.reason == SGC_REASON_CANCELLED);
    sgc_result_free(result);
    pthread_join(all.thread, NULL);
    CHECK(sgc_scraper_pending(scraper) == 0);
    sgc_scraper_submit(scraper, silent, NULL, &first, NULL);
    sgc_scraper_cancel(scraper, first); /* before anybody waits */
    result = wait_one(scraper);
    CHECK(result->failure.reason == SGC_REASON_CANCELLED);
    sgc_result_free(result);
    scrapes_well(scraper);
    sgc_endpoint_free(silent);
    sgc_scraper_free(scraper);
}

static void another_thread_can_wake_the_one_that_waits(void)
{
    sgc_scraper *scraper = scraper_of(10);
    sgc_endpoint *silent = endpoint_of("/silent", 60);
    later wake = {.scraper = scraper, .what = WAKE};
    sgc_result *result;
    size_t n;
    uint64_t id;
    moment start = this_moment();

    sgc_scraper_submit(scraper, silent, NULL, &id, NULL);
    later_do(&wake);
    CHECK(sgc_scraper_wait(scraper, 5000, &result, 1, &n, NULL) == SGC_OK && n == 0);
    CHECK(undisturbed(start) < LATEST);
    pthread_join(wake.thread, NULL);
    sgc_scraper_wake(scraper); /* nobody waits: the next wait returns at once */
    start = this_moment();
    CHECK(sgc_scraper_wait(scraper, 5000, &result, 1, &n, NULL) == SGC_OK && n == 0 &&
          undisturbed(start) < 0.1);
    CHECK(sgc_scraper_wait(scraper, 200, &result, 1, &n, NULL) == SGC_OK && n == 0 && elapsed(start) > 0.19);
    sgc_endpoint_free(silent);
    sgc_scraper_free(scraper);
}

static void a_thread_may_wait_before_anything_is_pending(void)
{
    sgc_scraper *scraper = scraper_of(10);
    sgc_endpoint *good = endpoint_of("/page", 60);
    later submit = {.scraper = scraper, .endpoint = good, .what = SUBMIT};
    later wake = {.scraper = scraper, .what = WAKE};
    sgc_result *result = NULL;
    size_t n;
    moment start = this_moment();

    later_do(&submit);
    CHECK(sgc_scraper_wait(scraper, -1, &result, 1, &n, NULL) == SGC_OK && n == 1);
    CHECK(result && result->failure.reason == SGC_REASON_NONE && elapsed(start) > 0.09);
    pthread_join(submit.thread, NULL);
    CHECK(result && result->id == submit.id);
    sgc_result_free(result);
    start = this_moment();
    later_do(&wake);
    CHECK(sgc_scraper_wait(scraper, -1, &result, 1, &n, NULL) == SGC_OK && n == 0 && elapsed(start) > 0.09);
    pthread_join(wake.thread, NULL);
    sgc_endpoint_free(good);
    sgc_scraper_free(scraper);
}

static void scrapes_are_submitted_together(void)
{
    enum { MANY = 200 };
    sgc_scraper *scraper = scraper_of(10);
    sgc_endpoint *good = endpoint_of("/page", 30), *endpoints[MANY];
    bool came[MANY] = {false};
    uint64_t first = 1;

    for (int i = 0; i < MANY; i++)
        endpoints[i] = good;
    CHECK(sgc_scraper_submit_all(scraper, endpoints, 0, NULL, &first, NULL) == SGC_OK);
    CHECK(sgc_scraper_pending(scraper) == 0);
    CHECK(sgc_scraper_submit_all(scraper, endpoints, MANY, NULL, &first, NULL) == SGC_OK);
    CHECK(sgc_scraper_pending(scraper) == MANY);
    for (int i = 0; i < MANY; i++) {
        sgc_result *result = wait_one(scraper);
        CHECK(result->failure.reason == SGC_REASON_NONE && result->id - first < MANY);
        came[result->id - first] = true;
        sgc_result_free(result);
    }
    for (int i = 0; i < MANY; i++)
        CHECK(came[i]);
    sgc_endpoint_free(good);
    sgc_scraper_free(scraper);
}

static void on_alarm(int number)
{
    (void)number;
}

static void a_signal_ends_a_wait(void)
{
    sgc_scraper *scraper = scraper_of(10);
    sgc_endpoint *silent = endpoint_of("/silent", 60);
    struct itimerval soon = {{.tv_usec = 50000},
                             {.tv_usec = 50000}}; /* again, where it came before the wait */
    sgc_result *result;
    size_t n;
    uint64_t id;
    moment start = this_moment();

    signal(SIGALRM, on_alarm);
    sgc_scraper_submit(scraper, silent, NULL, &id, NULL);
    setitimer(ITIMER_REAL, &soon, NULL);
    CHECK(sgc_scraper_wait(scraper, 5000, &result, 1, &n, NULL) == SGC_OK && n == 0);
    CHECK(elapsed(start) > 0.04 && undisturbed(start) < LATEST);
    CHECK(sgc_scraper_pending(scraper) == 1);
    setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
    signal(SIGALRM, SIG_DFL);
    sgc_endpoint_free(silent);
    sgc_scraper_free(scraper);
}

static void a_scrape_submitted_while_another_thread_waits_starts_at_once(void)
{
    sgc_scraper *scraper = scraper_of(10);
    sgc_endpoint *silent = endpoint_of("/silent", 60), *page = endpoint_of("/page", 60);
    later submit = {.scraper = scraper, .endpoint = page, .what = SUBMIT};
    uint64_t id;
    moment start = this_moment();

    sgc_scraper_submit(scraper, silent, NULL, &id, NULL);
    later_do(&submit);
    sgc_result *result = wait_one(scraper);
    CHECK(is_good(result) && undisturbed(start) < LATEST);
    pthread_join(submit.thread, NULL);
    CHECK(submit.status == SGC_OK && result->id == submit.id);
    sgc_result_free(result);
    sgc_endpoint_free(silent);
    sgc_endpoint_free(page);
    sgc_scraper_free(scraper);
}

static void a_second_driver_is_refused_and_the_first_not_disturbed(void)
{
    sgc_scraper *scraper = scraper_of(10);
    sgc_endpoint *silent = endpoint_of("/silent", 60);
    later wait = {.scraper = scraper, .what = WAIT, .asked = atomic_load(&server.requests)};
    uint64_t id;

    sgc_scraper_submit(scraper, silent, NULL, &id, NULL);
    later_do(&wait);
    sgc_result *result = wait_one(scraper);
    pthread_join(wait.thread, NULL);
    CHECK(wait.status == SGC_BUSY);
    CHECK(result && result->failure.reason == SGC_REASON_CANCELLED);
    sgc_result_free(result);
    sgc_endpoint_free(silent);
    sgc_scraper_free(scraper);
}

typedef struct submitter {
    sgc_scraper *scraper;
    sgc_endpoint *endpoint;
    int times, cancel_every;
    int submitted;
    pthread_t thread;
} submitter;

static void *submitter_main(void *arg)
{
    submitter *submitter = arg;
    uint64_t id;

    for (int i = 0; i < submitter->times; i++) {
        submitter->submitted +=
            sgc_scraper_submit(submitter->scraper, submitter->endpoint, NULL, &id, NULL) == SGC_OK;
        if (i % submitter->cancel_every == 0)
            sgc_scraper_cancel(submitter->scraper, id);
        if (i % 11 == 0)
            sgc_scraper_wake(submitter->scraper);
    }
    return NULL;
}

static void submit_from_threads(int each, int cancel_every)
{
    enum { THREADS = 4 };
    sgc_scraper *scraper = scraper_of(8);
    submitter submitters[THREADS];
    int ended = 0, cancelled = 0;

    for (int i = 0; i < THREADS; i++) {
        submitters[i] = (submitter){.scraper = scraper,
                                    .endpoint = endpoint_of("/page", 60),
                                    .times = each,
                                    .cancel_every = cancel_every};
        pthread_create(&submitters[i].thread, NULL, submitter_main, &submitters[i]);
    }
    while (ended < THREADS * each) {
        sgc_result *results[16];
        size_t n;
        CHECK(sgc_scraper_wait(scraper, 100, results, 16, &n, NULL) == SGC_OK);
        for (size_t i = 0; i < n; i++, ended++) {
            cancelled += results[i]->failure.reason == SGC_REASON_CANCELLED;
            CHECK(is_good(results[i]) || results[i]->failure.reason == SGC_REASON_CANCELLED);
            sgc_result_free(results[i]);
        }
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(submitters[i].thread, NULL);
        CHECK(submitters[i].submitted == each);
        sgc_endpoint_free(submitters[i].endpoint);
    }
    CHECK(cancelled <= THREADS * (each / cancel_every + 1) && sgc_scraper_pending(scraper) == 0);
    sgc_scraper_free(scraper);
}

static void many_threads_submit_and_cancel_while_one_drives(void)
{
    submit_from_threads(50, 7);
    submit_from_threads(2000, 1); /* often cancelled before the driver has seen them */
}

static sgc_result *scrape_by(const sgc_str *entries, size_t n, const char *host, uint16_t port)
{
    sgc_scraper_options options;
    sgc_scraper *scraper;
    char url[200];

    snprintf(url, sizeof url, "http://%s:%u/page", host, port);
    sgc_scraper_options_init(&options);
    CHECK(sgc_guard_new(entries, n, &options.guard, NULL) == SGC_OK);
    CHECK(sgc_scraper_new(&options, &scraper, NULL) == SGC_OK);
    sgc_guard_free(options.guard); /* the scraper keeps it */
    sgc_endpoint *endpoint = endpoint_at(url, 10, 0);
    sgc_result *result = scrape(scraper, endpoint, NULL);
    if (is_good(result)) { /* a kept connection is judged again */
        sgc_result_free(result);
        result = scrape(scraper, endpoint, NULL);
        CHECK(is_good(result) && result->reused);
    }
    sgc_endpoint_free(endpoint);
    sgc_scraper_free(scraper);
    return result;
}

static sgc_result *scrape_guarded(const char *entry, const char *host)
{
    char text[100];

    snprintf(text, sizeof text, entry, server.port);
    return scrape_by(&(sgc_str){text, strlen(text)}, 1, host, server.port);
}

/* Connections that the server has taken, the last one of our own: those that were
 * made before it came before it. */
static int accepted_till_now(void)
{
    sgc_scraper *scraper = scraper_of(1);
    int accepted;

    CHECK(scrapes_well(scraper));
    accepted = atomic_load(&server.accepted);
    sgc_scraper_free(scraper);
    return accepted;
}

static void the_guard_decides_before_a_packet_leaves(void)
{
    static const struct {
        const char *entry, *host;
        sgc_reason reason;
    } rows[] = {
        {"127.0.0.1:%u", "127.0.0.1", SGC_REASON_NONE},
        {"*:%u", "127.0.0.1", SGC_REASON_NONE},
        {"127.0.0.1:%u", "2130706433", SGC_REASON_NONE},
        {"localhost:%u", "localhost", SGC_REASON_NONE},
        {"*:%u", "localhost", SGC_REASON_NONE},
        {"10.0.0.0/8:%u", "127.0.0.1", SGC_REASON_ADDRESS_NOT_ALLOWED},
        {"10.0.0.0/8:%u", "localhost", SGC_REASON_HOST_NOT_ALLOWED},
        {"localhos*:%u", "localhost", SGC_REASON_ADDRESS_NOT_ALLOWED},
        {"x.localhost:%u", "x.localhost", SGC_REASON_ADDRESS_NOT_ALLOWED},
        {"127.0.0.1:1", "127.0.0.1", SGC_REASON_PORT_NOT_ALLOWED},
        {"127.0.0.1:%u", "0", SGC_REASON_ADDRESS_NOT_ALLOWED},
        {"0.0.0.0:%u", "0", SGC_REASON_NONE},
        {"127.0.0.1:%u", "[::ffff:127.0.0.1]", SGC_REASON_NONE},
        {"[::/0]:%u", "[::ffff:127.0.0.1]", SGC_REASON_ADDRESS_NOT_ALLOWED},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int accepted = accepted_till_now();
        sgc_result *result = scrape_guarded(rows[i].entry, rows[i].host);
        CHECK_MSG(result->failure.reason == rows[i].reason, "%s %s: %s", rows[i].entry, rows[i].host,
                  result->failure.what);
        CHECK_MSG(accepted_till_now() - accepted == 1 + (rows[i].reason == SGC_REASON_NONE), "%s",
                  rows[i].host);
        sgc_result_free(result);
    }
}

/* A listener at [::1], and its port; -1 where there is no IPv6. */
static int listen_v6(uint16_t *port)
{
    struct sockaddr_in6 addr = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    socklen_t len = sizeof addr;
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&addr, len) != 0 || listen(fd, 8) != 0 ||
        getsockname(fd, (struct sockaddr *)&addr, &len) != 0) {
        close(fd);
        return -1;
    }
    *port = ntohs(addr.sin6_port);
    return fd;
}

/* Which of the two is tried first is libcurl's affair: each is once the good one. */
static void a_name_with_a_denied_address_is_refused_before_the_good_one_is_connected_to(void)
{
    uint16_t ports[2] = {server.port, 0};
    int listener = listen_v6(&ports[1]);
    const sgc_str good[] = {str("127.0.0.1:1-65535"), str("[::1]:1-65535")};

    for (int i = 0; listener >= 0 && i < 2; i++) {
        const sgc_str entries[] = {good[i], str("localhos*:1-65535")};
        int accepted = accepted_till_now();
        sgc_result *result = scrape_by(entries, 2, "localhost", ports[i]);
        CHECK_MSG(result->failure.reason == SGC_REASON_ADDRESS_NOT_ALLOWED, "%s", result->failure.what);
        CHECK(accepted_till_now() - accepted == 1 && accept(listener, NULL, NULL) < 0);
        sgc_result_free(result);
    }
    close(listener);
}

static void names_wait_their_turn_to_be_looked_up(void)
{
    enum { MANY = 20 };
    sgc_scraper_options options;
    sgc_scraper *scraper;
    char url[200];
    uint64_t id;

    sgc_scraper_options_init(&options);
    options.max_lookups = 1;
    CHECK(sgc_scraper_new(&options, &scraper, NULL) == SGC_OK);
    snprintf(url, sizeof url, "http://localhost:%u/page", server.port);
    for (int i = 0; i < MANY; i++) {
        sgc_endpoint *endpoint = endpoint_at(url, 60, 0);
        sgc_scraper_submit(scraper, endpoint, NULL, &id, NULL);
        sgc_endpoint_free(endpoint);
    }
    for (int i = 0; i < MANY; i++) {
        sgc_result *result = wait_one(scraper);
        CHECK_MSG(is_good(result), "%s", result->failure.what);
        sgc_result_free(result);
    }
    sgc_scraper_free(scraper);
}

static void a_name_that_does_not_exist_is_told_so(void)
{
    sgc_scraper *scraper = scraper_of(10);
    sgc_endpoint *endpoint = endpoint_at("http://256.256.256.256:30000/", 60, 0);
    sgc_result *result = scrape(scraper, endpoint, NULL);

    CHECK_MSG(result->failure.reason == SGC_REASON_RESOLVE_FAILED, "%s", result->failure.what);
    sgc_result_free(result);
    sgc_endpoint_free(endpoint);
    sgc_scraper_free(scraper);
}

static bool asked_with(const char *line)
{
    bool found;

    pthread_mutex_lock(&server.lock);
    found = strstr(server.request, line) != NULL;
    pthread_mutex_unlock(&server.lock);
    return found;
}

static void a_request_carries_what_was_given_and_nothing_of_the_environment(void)
{
    sgc_header header = {str("X-Key"), str("value")};
    sgc_scraper *scraper;
    sgc_endpoint_options options;
    sgc_endpoint *endpoint;
    sgc_failure failure;
    char url[200];

    setenv("http_proxy", "http://127.0.0.1:1", 1);
    setenv("ALL_PROXY", "http://127.0.0.1:1", 1);
    scraper = scraper_of(10);
    url_of(url, "/page");
    sgc_endpoint_options_init(&options);
    options.url = str(url);
    options.headers = &header;
    options.n_headers = 1;
    options.user_agent = str("test/1");
    options.bearer_token = str("t0ken");
    sgc_endpoint_new(&options, &endpoint, &failure, NULL);
    sgc_result *result = scrape(scraper, endpoint, NULL);
    CHECK_MSG(is_good(result), "%s", result->failure.what);
    CHECK(asked_with("GET /page HTTP/1.1\r\n") && asked_with("\r\nX-Key: value\r\n"));
    CHECK(asked_with("\r\nUser-Agent: test/1\r\n") && asked_with("\r\nAuthorization: Bearer t0ken\r\n"));
    CHECK(asked_with("\r\nAccept: text/plain;version=0.0.4") && asked_with("\r\nAccept-Encoding: gzip\r\n"));
    sgc_result_free(result);
    sgc_endpoint_free(endpoint);

    options.bearer_token = (sgc_str){NULL, 0};
    options.basic_user = str("user");
    options.basic_password = str("pass:word");
    sgc_endpoint_new(&options, &endpoint, &failure, NULL);
    sgc_result_free(scrape(scraper, endpoint, NULL));
    CHECK(asked_with("\r\nAuthorization: Basic dXNlcjpwYXNzOndvcmQ=\r\n"));
    sgc_endpoint_free(endpoint);
    unsetenv("http_proxy");
    unsetenv("ALL_PROXY");
    sgc_scraper_free(scraper);
}

static void a_handle_forgets_one_endpoint_before_the_next(void)
{
    sgc_scraper *scraper = scraper_of(1); /* so there is one handle */
    sgc_endpoint_options options;
    sgc_endpoint *endpoint;
    sgc_failure failure;
    char url[200];

    url_of(url, "/page");
    sgc_endpoint_options_init(&options);
    options.url = str(url);
    options.bearer_token = str("t0ken");
    options.user_agent = str("test/1");
    sgc_endpoint_new(&options, &endpoint, &failure, NULL);
    sgc_result_free(scrape(scraper, endpoint, NULL));
    CHECK(asked_with("t0ken"));
    scrapes_well(scraper);
    CHECK(!asked_with("t0ken") && !asked_with("test/1"));
    sgc_result_free(scrape(scraper, endpoint, NULL));
    CHECK(asked_with("t0ken"));
    sgc_endpoint_free(endpoint);
    sgc_scraper_free(scraper);
}

static void a_full_file_table_is_told_from_a_refused_connection(void)
{
    sgc_scraper *scraper = scraper_of(10);
    struct rlimit before, full;

    scrapes_well(scraper);
    sgc_result_free(scrape_path(scraper, "/empty", 60)); /* so that a new connection is needed */
    CHECK(eventually(nobody_is_served, NULL));           /* whose descriptors are free by now */
    getrlimit(RLIMIT_NOFILE, &before);
    full = before;
    full.rlim_cur = (rlim_t)dup(0);
    close((int)full.rlim_cur);
    setrlimit(RLIMIT_NOFILE, &full);
    sgc_endpoint *endpoint = endpoint_at("http://127.0.0.2:1/", 60, 0);
    sgc_result *result = scrape(scraper, endpoint, NULL);
    setrlimit(RLIMIT_NOFILE, &before);
    CHECK_MSG(result->failure.reason == SGC_REASON_LOCAL_RESOURCE, "%s: %s",
              sgc_reason_slug(result->failure.reason), result->failure.what);
    sgc_result_free(result);
    sgc_endpoint_free(endpoint);
    scrapes_well(scraper);
    sgc_scraper_free(scraper);
}

static bool all_ids_right(sgc_scraper *scraper, const char *who, int n)
{
    bool right = true;

    for (int i = 0; i < n; i++) {
        char path[50], body[100];
        snprintf(path, sizeof path, "/id/%s%d", who, i);
        snprintf(body, sizeof body, "a{id=\"%s%d\"} 1\n", who, i);
        sgc_result *result = scrape_path(scraper, path, 60);
        right &= is_good(result) && result->body_len == strlen(body) &&
                 memcmp(result->body, body, strlen(body)) == 0;
        sgc_result_free(result);
    }
    return right;
}

static void a_forked_child_uses_connections_of_its_own(void)
{
    sgc_scraper *scraper = scraper_of(10);
    sgc_endpoint *silent = endpoint_of("/silent", 60);
    int accepted, status = -1;
    uint64_t id;

    scrapes_well(scraper); /* warm */
    sgc_scraper_submit(scraper, silent, NULL, &id, NULL);
    accepted = atomic_load(&server.accepted);
    pid_t child = fork();
    if (child == 0) {
        bool right = sgc_scraper_pending(scraper) == 0; /* the parent's */
        sgc_scraper_cancel(scraper, 0);
        sgc_scraper_wake(scraper);
        right = all_ids_right(scraper, "child", 50) && right;
        sgc_scraper_free(scraper);
        _exit(right ? 0 : 1);
    }
    CHECK(sgc_scraper_pending(scraper) == 1);
    sgc_scraper_cancel(scraper, id);
    sgc_result_free(wait_one(scraper));
    CHECK(all_ids_right(scraper, "parent", 50));
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK(scrapes_well(scraper));
    /* the cancelled one was never begun: a connection of the child's is all that is new */
    CHECK_MSG(atomic_load(&server.accepted) == accepted + 1, "%d", atomic_load(&server.accepted) - accepted);
    sgc_endpoint_free(silent);
    sgc_scraper_free(scraper);
}

static void a_child_may_free_what_it_never_used(void)
{
    sgc_scraper *scraper = scraper_of(10);
    int status = -1;

    scrapes_well(scraper);
    pid_t child = fork();
    if (child == 0) {
        sgc_scraper_free(scraper);
        _exit(0);
    }
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    int accepted = atomic_load(&server.accepted);
    CHECK(scrapes_well(scraper) && atomic_load(&server.accepted) == accepted);
    sgc_scraper_free(scraper);
}

static void options_out_of_range_are_refused(void)
{
    sgc_scraper_options options;
    sgc_scraper *scraper;
    sgc_error err;

    sgc_scraper_options_init(&options);
    options.max_connections = 0;
    CHECK(sgc_scraper_new(&options, &scraper, &err) == SGC_ARGUMENT && !scraper);
    sgc_scraper_options_init(&options);
    options.max_lookups = 0;
    CHECK(sgc_scraper_new(&options, &scraper, &err) == SGC_ARGUMENT && err.code == SGC_ARGUMENT);
    sgc_scraper_free(NULL);
    sgc_result_free(NULL);
}

static void endpoints_that_are_gone_leave_nothing_behind(void)
{
    alloc_install();
    sgc_scraper *scraper = scraper_of(10);
    long before = 0;

    for (int i = 0; i < 50; i++) {
        sgc_result_free(scrape_path(scraper, i % 2 ? "/page" : "/404", 60));
        before = i == 1 ? atomic_load(&alloc_live) : before;
    }
    CHECK(atomic_load(&alloc_live) == before);
    sgc_scraper_free(scraper);
    CHECK(atomic_load(&alloc_live) == 0);
    sgc_allocator_set(NULL);
}

/* One scrape from nothing, then one over the kept connection. */
static bool whole_scrape(void)
{
    sgc_scraper *scraper = scraper_of(2);
    sgc_plan *plan = plan_new();
    sgc_endpoint *endpoint = endpoint_of("/gzip", 60);
    bool good = scraper && plan && endpoint;

    for (int i = 0; good && i < 2; i++) {
        sgc_result *result = scrape(scraper, endpoint, plan);
        CHECK(!result || is_good(result) || result->failure.reason == SGC_REASON_OUT_OF_MEMORY);
        CHECK(!is_good(result) || (result->body_len == 4 && sgc_fold_slot(result->fold, 0)->value == 1));
        good = is_good(result);
        sgc_result_free(result);
    }
    sgc_endpoint_free(endpoint);
    sgc_plan_free(plan);
    sgc_scraper_free(scraper);
    return good;
}

static void every_allocation_failure_of_a_scrape_is_survived(void)
{
    alloc_install();
    long points = alloc_sweep("a scrape", whole_scrape);
    sgc_allocator_set(NULL);
    CHECK_MSG(points > 20, "%ld", points);
}

int main(void)
{
    server_start();
    a_page_comes_as_bytes_and_as_the_plan_s_numbers();
    a_connection_is_kept_for_the_next_scrape();
    chunks_gzip_and_closing_give_the_same_bytes();
    each_fault_has_its_reason_and_leaves_the_scraper_usable();
    a_status_is_told_with_the_wait_the_server_asks_for();
    a_malformed_page_names_line_and_column();
    a_limit_of_the_page_is_named();
    a_closed_port_is_named();
    a_timeout_is_kept_and_says_how_far_the_scrape_came();
    a_timeout_tells_connecting_from_shaking_hands();
    a_kept_connection_that_died_is_asked_again_once();
    a_redirect_leads_to_no_second_request();
    several_kept_connections_that_died_cost_two_requests_at_most();
    bytes_that_nobody_asked_for_do_not_become_the_next_page();
    endpoints_of_one_server_share_a_connection();
    many_scrapes_share_few_connections_and_mix_nothing_up();
    silent_targets_hold_up_nobody_that_comes_after_them();
    a_scrape_that_waits_for_a_connection_waits_inside_its_deadline();
    waiting_ends_with_its_time_or_at_once_where_nothing_is_pending();
    another_thread_can_cancel_one_scrape_or_all();
    another_thread_can_wake_the_one_that_waits();
    a_thread_may_wait_before_anything_is_pending();
    scrapes_are_submitted_together();
    a_signal_ends_a_wait();
    a_scrape_submitted_while_another_thread_waits_starts_at_once();
    a_second_driver_is_refused_and_the_first_not_disturbed();
    many_threads_submit_and_cancel_while_one_drives();
    the_guard_decides_before_a_packet_leaves();
    a_name_with_a_denied_address_is_refused_before_the_good_one_is_connected_to();
    names_wait_their_turn_to_be_looked_up();
    a_name_that_does_not_exist_is_told_so();
    a_request_carries_what_was_given_and_nothing_of_the_environment();
    a_handle_forgets_one_endpoint_before_the_next();
    a_full_file_table_is_told_from_a_refused_connection();
    a_forked_child_uses_connections_of_its_own();
    a_child_may_free_what_it_never_used();
    options_out_of_range_are_refused();
    endpoints_that_are_gone_leave_nothing_behind();
    every_allocation_failure_of_a_scrape_is_survived();
    server_stop();
    return check_done("test_scrape");
}
