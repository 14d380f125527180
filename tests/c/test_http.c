/*
 * test_http.c - what can be known of an exchange without a network: labels and
 * checks of URLs, options, gzip, and the judgement of header lines and bodies.
 */
#define _DEFAULT_SOURCE 1 /* mkstemp */

#include "alloc.h"
#include "check.h"
#include "http.h"

#include <unistd.h>
#include <zlib.h>

static sgc_str str(const char *text)
{
    return (sgc_str){text, strlen(text)};
}

/* ------------------------------------------------------------------- label */

static void a_label_shows_no_credentials_and_no_query_values(void)
{
    static const struct {
        const char *url, *label;
    } rows[] = {
        {"http://h:30000/metrics", "http://h:30000/metrics"},
        {"http://user:pw@h:30000/metrics", "http://h:30000/metrics"},
        {"http://user@h/", "http://h/"},
        {"http://a:b@c:d@h/", "http://h/"},
        {"http://user:p/w@h/metrics", "http://h/metrics"},
        {"http://h:30000/a@b", "http://h:30000/a@b"},
        {"http://h/m?token=secret", "http://h/m?token="},
        {"http://h/m?token=secret&x=1#frag", "http://h/m?token=&x="},
        {"http://h/m?secret", "http://h/m"},
        {"http://h/m?a=1&secret&b=x=y", "http://h/m?a=&b="},
        {"http://h/m#secret", "http://h/m"},
        {"http://h?u=a@b", "http://h?u="},
        {"http://h#a?secret=1", "http://h"},
        {"user:pw@h/x", "h/x"},
        {"http:user:pw@h/x", "h/x"},
        {"http:/user:pw@h/x", "http:/h/x"},
        {"http:\\\\user:pw@h\\x", "http:\\x5c\\x5ch\\x5cx"},
        {"//user:pw@h/x", "//h/x"},
        {"http://[::1]:30000/m", "http://[::1]:30000/m"},
        {"http://u:p@[::1]:30000/m", "http://[::1]:30000/m"},
        {"http://h/\r\n\x1b", "http://h/\\x0d\\x0a\\x1b"},
        {"http://h\xc3\xbc/", "http://h\\xc3\\xbc/"},
        {"", ""},
        {"http:", "http:"},
        {"://", "://"},
        {"@", ""},
        {"?a=1", "?a="},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char label[SGC_LABEL_SIZE];
        sgc_url_label(str(rows[i].url), label);
        CHECK_MSG(strcmp(label, rows[i].label) == 0, "%s: %s", rows[i].url, label);
    }
}

static void a_label_has_a_length_whatever_the_url(void)
{
    static char url[5000];
    char label[SGC_LABEL_SIZE];

    memset(url, 'a', sizeof url);
    memcpy(url, "http://h/", 9);
    sgc_url_label((sgc_str){url, sizeof url}, label);
    CHECK(strlen(label) == SGC_LABEL_SIZE - 1);
    memset(url + 9, 1, sizeof url - 9);
    sgc_url_label((sgc_str){url, sizeof url}, label);
    CHECK(strlen(label) <= SGC_LABEL_SIZE - 1);
    memset(url + 9, '&', sizeof url - 9);
    memcpy(url + 9, "?a=1", 4);
    sgc_url_label((sgc_str){url, sizeof url}, label);
    CHECK(strcmp(label, "http://h/?a=") == 0);
    sgc_url_label((sgc_str){"http://h\0/x", 11}, label);
    CHECK(strcmp(label, "http://h\\x00/x") == 0);
}

/* ---------------------------------------------------------------- endpoint */

static sgc_reason url_reason(sgc_str url)
{
    sgc_endpoint_options options;
    sgc_endpoint *endpoint;
    sgc_failure failure;
    sgc_error err;

    sgc_endpoint_options_init(&options);
    options.url = url;
    CHECK(sgc_endpoint_new(&options, &endpoint, &failure, &err) == SGC_OK);
    CHECK((endpoint != NULL) == (failure.reason == SGC_REASON_NONE));
    CHECK(endpoint || failure.what[0]);
    CHECK_MSG(!strstr(failure.what, "secret"), "%s", failure.what);
    sgc_endpoint_free(endpoint);
    return failure.reason;
}

static void a_url_is_http_with_a_host_and_nothing_odd(void)
{
    static const struct {
        const char *url;
        sgc_reason reason;
    } rows[] = {
        {"http://h:30000/metrics", SGC_REASON_NONE},
        {"HTTP://h/metrics", SGC_REASON_NONE},
        {"https://h", SGC_REASON_NONE},
        {"http://h/m?name[]=a#b", SGC_REASON_NONE},
        {"http://[::1]:30000/", SGC_REASON_NONE},
        {"http://2130706433/", SGC_REASON_NONE},
        {"http://gpu_1.local./", SGC_REASON_NONE},
        {"file:///etc/passwd", SGC_REASON_UNSUPPORTED_SCHEME},
        {"FILE:///etc/passwd", SGC_REASON_UNSUPPORTED_SCHEME},
        {"file:/etc/passwd", SGC_REASON_UNSUPPORTED_SCHEME},
        {"gopher://h/", SGC_REASON_UNSUPPORTED_SCHEME},
        {"ftp://h/", SGC_REASON_UNSUPPORTED_SCHEME},
        {"dict://h/", SGC_REASON_UNSUPPORTED_SCHEME},
        {"unix:/run/x", SGC_REASON_UNSUPPORTED_SCHEME},
        {"httpx://h/", SGC_REASON_UNSUPPORTED_SCHEME},
        {"", SGC_REASON_BAD_URL},
        {"h", SGC_REASON_BAD_URL},
        {"h/metrics", SGC_REASON_BAD_URL},
        {"h:30000", SGC_REASON_BAD_URL},
        {"10.1.2.3:30000/metrics", SGC_REASON_BAD_URL},
        {"//h/", SGC_REASON_BAD_URL},
        {"http:/h", SGC_REASON_BAD_URL},
        {"http:h", SGC_REASON_BAD_URL},
        {"http:", SGC_REASON_BAD_URL},
        {"http://", SGC_REASON_BAD_URL},
        {"http:///h", SGC_REASON_BAD_URL},
        {"http:////h", SGC_REASON_BAD_URL},
        {"http://:80/", SGC_REASON_BAD_URL},
        {"http:\\\\h/", SGC_REASON_BAD_URL},
        {"http://h\\x", SGC_REASON_BAD_URL},
        {"http://h/a b", SGC_REASON_BAD_URL},
        {" http://h/", SGC_REASON_BAD_URL},
        {"http://h/\n", SGC_REASON_BAD_URL},
        {"http://h/\r", SGC_REASON_BAD_URL},
        {"http://h/\t", SGC_REASON_BAD_URL},
        {"http://h/\x7f", SGC_REASON_BAD_URL},
        {"http://h/\xc3\xbc", SGC_REASON_BAD_URL},
        {"http://\xe2\x91\xa0\xe2\x91\xa1\xe2\x91\xa6.0.0.1/", SGC_REASON_BAD_URL},
        {"http://user:secret@h/", SGC_REASON_BAD_URL},
        {"http://secret@h/", SGC_REASON_BAD_URL},
        {"http://@h/", SGC_REASON_BAD_URL},
        {"http://h/a@b", SGC_REASON_NONE},
        {"http://[::1/", SGC_REASON_BAD_URL},
        {"http://[gg::1]/", SGC_REASON_BAD_URL},
        {"http://h%00x/", SGC_REASON_BAD_URL},
        {"http://h%0ax/", SGC_REASON_BAD_URL},
        {"http://h!/", SGC_REASON_BAD_URL},
        {"http://h:0/", SGC_REASON_PORT_NOT_ALLOWED},
        {"http://h:65536/", SGC_REASON_PORT_NOT_ALLOWED},
        {"http://h:x/", SGC_REASON_PORT_NOT_ALLOWED},
    };
    static char longest[2049];

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        CHECK_MSG(url_reason(str(rows[i].url)) == rows[i].reason, "%s: %s", rows[i].url,
                  sgc_reason_slug(url_reason(str(rows[i].url))));
    CHECK(url_reason((sgc_str){"http://h/\0", 10}) == SGC_REASON_BAD_URL);
    memset(longest, 'a', sizeof longest);
    memcpy(longest, "http://h/", 9);
    CHECK(url_reason((sgc_str){longest, 2048}) == SGC_REASON_NONE);
    CHECK(url_reason((sgc_str){longest, 2049}) == SGC_REASON_BAD_URL);
    longest[8] = 'a';
    CHECK(url_reason((sgc_str){longest, 2048}) == SGC_REASON_BAD_URL); /* no such long host */
}

static sgc_endpoint *endpoint_of(const char *url)
{
    sgc_endpoint_options options;
    sgc_endpoint *endpoint;
    sgc_failure failure;

    sgc_endpoint_options_init(&options);
    options.url = str(url);
    sgc_endpoint_new(&options, &endpoint, &failure, NULL);
    CHECK_MSG(endpoint, "%s: %s", url, failure.what);
    return endpoint;
}

static void every_spelling_of_an_ipv4_address_is_normalised(void)
{
    static const char *const urls[] = {"http://127.0.0.1/",      "http://2130706433/", "http://0x7f000001/",
                                       "http://017700000001",    "http://127.1/",      "http://0177.0.0.1/",
                                       "http://%31%32%37.0.0.1/"};

    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        sgc_endpoint *endpoint = endpoint_of(urls[i]);
        CHECK_MSG(endpoint && strcmp(endpoint->host, "127.0.0.1") == 0 && endpoint->numeric, "%s: %s",
                  urls[i], endpoint->host);
        sgc_endpoint_free(endpoint);
    }
}

static void a_port_left_out_is_that_of_the_scheme(void)
{
    sgc_endpoint *http = endpoint_of("http://h/"), *https = endpoint_of("HTTPS://h/"),
                 *given = endpoint_of("https://h:1/");

    CHECK(http->port == 80 && !http->https && !http->numeric);
    CHECK(https->port == 443 && https->https);
    CHECK(given->port == 1);
    sgc_endpoint_free(http);
    sgc_endpoint_free(https);
    sgc_endpoint_free(given);
}

static sgc_status status_of(const sgc_endpoint_options *options, sgc_error *err)
{
    sgc_endpoint *endpoint;
    sgc_failure failure;
    sgc_status status = sgc_endpoint_new(options, &endpoint, &failure, err);

    CHECK((status == SGC_OK) == (endpoint != NULL));
    sgc_endpoint_free(endpoint);
    return status;
}

static void a_timeout_lies_between_a_millisecond_and_an_hour(void)
{
    static const double good[] = {0.001, 0.5, 3600},
                        bad[] = {0, -1, 0.0009, 1e-9, 3600.1, 1e300, NAN, INFINITY, -INFINITY};
    sgc_endpoint_options options;
    sgc_error err;

    sgc_endpoint_options_init(&options);
    options.url = str("http://h/");
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        options.timeout = good[i];
        CHECK(status_of(&options, &err) == SGC_OK);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        options.timeout = bad[i];
        CHECK(status_of(&options, &err) == SGC_ARGUMENT && strstr(err.reason, "3600"));
    }
}

static void control_characters_in_what_is_sent_are_refused_and_not_repeated(void)
{
    static const char *const bad[] = {"secret\r\nX: 1", "secret\n", "secret\r", "secret\x01", "secret\x7f"};
    sgc_endpoint_options options;
    sgc_error err;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        sgc_header header = {str("X-Key"), str(bad[i])};
        sgc_str *fields[] = {&options.user_agent, &options.bearer_token, &options.basic_user,
                             &options.basic_password};
        sgc_endpoint_options_init(&options);
        options.url = str("http://h/");
        options.headers = &header;
        options.n_headers = 1;
        CHECK(status_of(&options, &err) == SGC_ARGUMENT && strcmp(err.excerpt, "X-Key") == 0);
        for (size_t k = 0; k < sizeof fields / sizeof *fields; k++) {
            sgc_endpoint_options_init(&options);
            options.url = str("http://h/");
            *fields[k] = str(bad[i]);
            CHECK(status_of(&options, &err) == SGC_ARGUMENT && !strstr(err.excerpt, "secret"));
        }
    }
    sgc_endpoint_options_init(&options);
    options.url = str("http://h/");
    options.bearer_token = (sgc_str){"a\0b", 3};
    CHECK(status_of(&options, &err) == SGC_ARGUMENT);
    options.bearer_token = (sgc_str){NULL, 0};
    options.basic_user = str("a:b");
    CHECK(status_of(&options, &err) == SGC_ARGUMENT);
}

static void a_header_name_is_a_token(void)
{
    static const char *const bad[] = {"", "X Y", "X:", "X\r\n", "\xc3\xbc", "(x)"};
    sgc_header header = {str("X-Key"), str("\xc3\xbc tab\there")};
    sgc_endpoint_options options;

    sgc_endpoint_options_init(&options);
    options.url = str("http://h/");
    options.headers = &header;
    options.n_headers = 1;
    CHECK(status_of(&options, NULL) == SGC_OK);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        header.name = str(bad[i]);
        CHECK_MSG(status_of(&options, NULL) == SGC_ARGUMENT, "%s", bad[i]);
    }
}

static bool sends(const sgc_endpoint *endpoint, const char *line)
{
    for (const struct curl_slist *at = endpoint->headers; at; at = at->next)
        if (strcmp(at->data, line) == 0)
            return true;
    return false;
}

static void headers_given_stand_in_for_our_own(void)
{
    sgc_header headers[] = {
        {str("ACCEPT"), str("text/html")}, {str("X-Empty"), str("")}, {str("X-Blank"), str("  a b ")}};
    sgc_endpoint_options options;
    sgc_endpoint *endpoint;
    sgc_failure failure;

    sgc_endpoint_options_init(&options);
    options.url = str("http://h/");
    sgc_endpoint_new(&options, &endpoint, &failure, NULL);
    CHECK(sends(endpoint, "Accept: text/plain;version=0.0.4,*/*;q=0.1"));
    CHECK(sends(endpoint, "Accept-Encoding: gzip"));
    sgc_endpoint_free(endpoint);
    options.headers = headers;
    options.n_headers = 3;
    sgc_endpoint_new(&options, &endpoint, &failure, NULL);
    CHECK(!sends(endpoint, "Accept: text/plain;version=0.0.4,*/*;q=0.1"));
    CHECK(sends(endpoint, "ACCEPT: text/html") && sends(endpoint, "X-Empty;") &&
          sends(endpoint, "X-Blank: a b "));
    CHECK(sends(endpoint, "Accept-Encoding: gzip"));
    sgc_endpoint_free(endpoint);
}

static sgc_reason tls_reason(const char *ca_file, const char *client_cert, char what[SGC_WHAT_SIZE])
{
    sgc_endpoint_options options;
    sgc_endpoint *endpoint;
    sgc_failure failure;

    sgc_endpoint_options_init(&options);
    options.url = str("https://h/");
    options.ca_file = ca_file ? str(ca_file) : (sgc_str){NULL, 0};
    options.client_cert = client_cert ? str(client_cert) : (sgc_str){NULL, 0};
    CHECK(sgc_endpoint_new(&options, &endpoint, &failure, NULL) == SGC_OK);
    CHECK((endpoint != NULL) == (failure.reason == SGC_REASON_NONE));
    sgc_endpoint_free(endpoint);
    memcpy(what, failure.what, sizeof failure.what);
    return failure.reason;
}

static void tls_files_are_loaded_when_the_endpoint_is_made(void)
{
    static const char *const system_ca = "/etc/ssl/certs/ca-certificates.crt";
    char what[SGC_WHAT_SIZE];
    char path[] = "/tmp/sgc-test-XXXXXX";
    int fd = mkstemp(path);

    CHECK(fd >= 0 && write(fd, "no certificate\n", 15) == 15);
    CHECK(tls_reason("/nonexistent/ca.pem", NULL, what) == SGC_REASON_TLS_CONFIG && strstr(what, "ca_file="));
    CHECK(tls_reason(path, NULL, what) == SGC_REASON_TLS_CONFIG && strstr(what, "ca_file="));
    CHECK(tls_reason(NULL, path, what) == SGC_REASON_TLS_CONFIG && strstr(what, "client_cert="));
    CHECK(tls_reason(NULL, "/nonexistent/cert.pem", what) == SGC_REASON_TLS_CONFIG);
    if (access(system_ca, R_OK) == 0)
        CHECK_MSG(tls_reason(system_ca, NULL, what) == SGC_REASON_NONE, "%s", what);
    CHECK(tls_reason(NULL, NULL, what) == SGC_REASON_NONE);
    close(fd);
    unlink(path);
}

/* -------------------------------------------------------------------- gzip */

typedef struct bytes {
    unsigned char *ptr;
    size_t len;
} bytes;

static bytes gzip(const char *data, size_t len)
{
    z_stream stream = {0};
    bytes out = {malloc(len + len / 100 + 100), 0};

    deflateInit2(&stream, 9, Z_DEFLATED, 15 + 16, 9, Z_DEFAULT_STRATEGY);
    stream.next_in = (z_const Bytef *)data;
    stream.avail_in = (uInt)len;
    stream.next_out = out.ptr;
    stream.avail_out = (uInt)(len + len / 100 + 100);
    CHECK(deflate(&stream, Z_FINISH) == Z_STREAM_END);
    out.len = stream.total_out;
    deflateEnd(&stream);
    return out;
}

static bytes join(bytes a, bytes b)
{
    bytes out = {malloc(a.len + b.len + 1), a.len + b.len};

    memcpy(out.ptr, a.ptr, a.len);
    memcpy(out.ptr + a.len, b.ptr, b.len);
    return out;
}

/* Feeds in pieces of `step` bytes. */
static sgc_status inflate_all(bytes in, size_t step, size_t ceiling, sgc__buf *out, bool *done)
{
    sgc__inflater *inflater = sgc__inflater_new();
    sgc_status status = SGC_OK;

    sgc__buf_init(out, ceiling);
    for (size_t at = 0; at < in.len && status == SGC_OK; at += step)
        status = sgc__inflater_feed(inflater, in.ptr + at, in.len - at < step ? in.len - at : step, out);
    *done = sgc__inflater_done(inflater);
    sgc__inflater_free(inflater);
    return status;
}

static void gzip_comes_out_whole_however_it_is_cut_into_pieces(void)
{
    enum { SIZE = 100000 };
    char *text = malloc(SIZE);
    sgc__buf out;
    bool done;

    for (size_t i = 0; i < SIZE; i++)
        text[i] = (char)('a' + i * i % 23);
    bytes one = gzip(text, SIZE), two = join(one, one);
    for (size_t step = 1; step < one.len * 2; step = step * 3 + 1) {
        CHECK(inflate_all(one, step, SIZE, &out, &done) == SGC_OK && done);
        CHECK(out.len == SIZE && memcmp(out.ptr, text, SIZE) == 0);
        sgc__buf_free(&out);
        CHECK(inflate_all(two, step, 2 * SIZE, &out, &done) == SGC_OK && done);
        CHECK(out.len == 2 * SIZE && memcmp(out.ptr + SIZE, text, SIZE) == 0);
        sgc__buf_free(&out);
    }
    free(text);
    free(one.ptr);
    free(two.ptr);
}

static void cut_gzip_is_not_done(void)
{
    bytes whole = gzip("sglang:num_running_reqs 1\n", 26);
    sgc__buf out;
    bool done;

    for (size_t len = 0; len < whole.len; len++) {
        CHECK(inflate_all((bytes){whole.ptr, len}, 5, 100, &out, &done) == SGC_OK && !done);
        sgc__buf_free(&out);
    }
    free(whole.ptr);
}

static void damaged_gzip_and_bytes_behind_it_are_errors(void)
{
    bytes whole = gzip("sglang:num_running_reqs 1\n", 26),
          behind = join(whole, (bytes){(unsigned char *)"xy", 2});
    sgc__buf out;
    bool done;

    for (size_t at = whole.len - 8; at < whole.len; at++) { /* checksum and length */
        whole.ptr[at] ^= 1;
        CHECK(inflate_all(whole, 7, 100, &out, &done) == SGC_SYNTAX);
        sgc__buf_free(&out);
        whole.ptr[at] ^= 1;
    }
    CHECK(inflate_all(behind, behind.len, 100, &out, &done) == SGC_SYNTAX);
    sgc__buf_free(&out);
    CHECK(inflate_all(behind, 1, 100, &out, &done) == SGC_SYNTAX);
    sgc__buf_free(&out);
    CHECK(inflate_all((bytes){(unsigned char *)"# HELP", 6}, 6, 100, &out, &done) == SGC_SYNTAX);
    sgc__buf_free(&out);
    free(whole.ptr);
    free(behind.ptr);
}

static void gzip_stops_at_the_ceiling_and_not_before(void)
{
    enum { SIZE = 1 << 20 };
    char *zeros = calloc(SIZE, 1);
    bytes bomb = gzip(zeros, SIZE);
    sgc__buf out;
    bool done;

    CHECK(inflate_all(bomb, 100, SIZE, &out, &done) == SGC_OK && done && out.len == SIZE);
    sgc__buf_free(&out);
    CHECK(inflate_all(bomb, 100, SIZE - 1, &out, &done) == SGC_LIMIT && out.len <= SIZE - 1);
    sgc__buf_free(&out);
    CHECK(inflate_all(bomb, bomb.len, 10, &out, &done) == SGC_LIMIT && out.room <= 10);
    sgc__buf_free(&out);
    bytes nothing = gzip("", 0);
    CHECK(inflate_all(nothing, 3, 0, &out, &done) == SGC_OK && done && out.len == 0);
    sgc__buf_free(&out);
    free(nothing.ptr);
    free(bomb.ptr);
    free(zeros);
}

/* ------------------------------------------------------------------ answers */

typedef struct seen {
    sgc__answer answer;
    sgc_failure failure;
    bool going; /* it wanted to read on */
} seen;

/* Reads the header lines (separated by '\n') and the body, in two pieces. */
static void read_answer(seen *seen, const char *head, const void *body, size_t len, uint64_t limit)
{
    memset(&seen->failure, 0, sizeof seen->failure);
    sgc__answer_init(&seen->answer, &seen->failure, limit, 100);
    seen->going = true;
    while (*head && seen->going) {
        char line[1000];
        size_t end = strcspn(head, "\n");
        int n = snprintf(line, sizeof line, "%.*s\r\n", (int)end, head);
        seen->going = sgc__answer_header(&seen->answer, line, (size_t)n);
        head += end + 1;
    }
    if (seen->going && len)
        seen->going = sgc__answer_body(&seen->answer, body, len / 2);
    if (seen->going && len)
        seen->going = sgc__answer_body(&seen->answer, (const char *)body + len / 2, len - len / 2);
    if (seen->going)
        sgc__answer_end(&seen->answer);
}

static sgc_reason reason_of(const char *head, const char *body)
{
    seen seen;

    read_answer(&seen, head, body, strlen(body), 1000);
    sgc__answer_free(&seen.answer);
    CHECK(!strstr(seen.failure.what, "secret"));
    CHECK(seen.going || seen.failure.reason != SGC_REASON_NONE);
    return seen.failure.reason;
}

#define OK_HEAD "HTTP/1.1 200 OK\n"

static void only_status_200_is_a_page(void)
{
    static const struct {
        const char *line;
        sgc_reason reason;
        int status;
    } rows[] = {
        {"HTTP/1.1 200 OK", SGC_REASON_NONE, 0},
        {"HTTP/1.0 200", SGC_REASON_NONE, 0},
        {"HTTP/1.1 404 Not Found", SGC_REASON_HTTP_STATUS, 404},
        {"HTTP/1.1 401 x", SGC_REASON_HTTP_STATUS, 401},
        {"HTTP/1.1 500 x", SGC_REASON_HTTP_STATUS, 500},
        {"HTTP/1.1 204 x", SGC_REASON_HTTP_STATUS, 204},
        {"HTTP/1.1 206 x", SGC_REASON_HTTP_STATUS, 206},
        {"HTTP/1.1 304 x", SGC_REASON_HTTP_STATUS, 304},
        {"HTTP/1.1 101 x", SGC_REASON_HTTP_STATUS, 101},
        {"HTTP/1.1 999 x", SGC_REASON_HTTP_STATUS, 999},
        {"HTTP/1.1 301 x", SGC_REASON_REDIRECT, 301},
        {"HTTP/1.1 308 x", SGC_REASON_REDIRECT, 308},
        {"HTTP/1.1 9999 x", SGC_REASON_FRAMING, 0},
        {"HTTP/1.1 000 x", SGC_REASON_FRAMING, 0},
        {"HTTP/1.1 20 x", SGC_REASON_FRAMING, 0},
        {"HTTP/1.1 abc", SGC_REASON_FRAMING, 0},
        {"HTTP/9.9 200 OK", SGC_REASON_FRAMING, 0},
        {"HTTP/2 200", SGC_REASON_FRAMING, 0},
        {"ICY 200 OK", SGC_REASON_FRAMING, 0},
        {"", SGC_REASON_FRAMING, 0},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char head[200];
        seen seen;
        snprintf(head, sizeof head, "%s\nLocation: http://secret/\nContent-Length: 6\n\n", rows[i].line);
        read_answer(&seen, head, "secret", 6, 1000);
        if (rows[i].reason == SGC_REASON_NONE)
            CHECK(seen.failure.reason == SGC_REASON_TRUNCATED); /* "secret" has no line feed */
        else
            CHECK_MSG(seen.failure.reason == rows[i].reason, "%s", rows[i].line);
        CHECK(seen.failure.status == rows[i].status && !strstr(seen.failure.what, "secret"));
        sgc__answer_free(&seen.answer);
    }
}

static void a_refused_answer_is_read_off_only_while_it_is_short(void)
{
    static char body[70000];
    seen seen;

    read_answer(&seen, "HTTP/1.1 404 x\nContent-Length: 65536\n\n", body, 65536, 1000);
    CHECK(seen.going && seen.failure.reason == SGC_REASON_HTTP_STATUS && !seen.answer.body.ptr);
    sgc__answer_free(&seen.answer);
    read_answer(&seen, "HTTP/1.1 404 x\nContent-Length: 65537\n\n", body, 0, 1000);
    CHECK(!seen.going && seen.failure.reason == SGC_REASON_HTTP_STATUS);
    sgc__answer_free(&seen.answer);
    read_answer(&seen, "HTTP/1.1 404 x\nTransfer-Encoding: chunked\n\n", body, 70000, 1000);
    CHECK(!seen.going && seen.failure.reason == SGC_REASON_HTTP_STATUS);
    sgc__answer_free(&seen.answer);
    read_answer(&seen, OK_HEAD "Content-Type: text/html\nContent-Length: 5\n\n", "<html", 5, 1000);
    CHECK(seen.going && seen.failure.reason == SGC_REASON_NOT_EXPOSITION);
    sgc__answer_free(&seen.answer);
    read_answer(&seen, OK_HEAD "Content-Type: text/html\nContent-Length: 70000\n\n", "", 0, 1000);
    CHECK(!seen.going);
    sgc__answer_free(&seen.answer);
}

static void the_end_of_the_body_is_told_in_one_way(void)
{
    static const struct {
        const char *lines;
        sgc_reason reason;
        sgc_framing framing;
        bool closing;
    } rows[] = {
        {"Content-Length: 4\n", SGC_REASON_NONE, SGC_FRAMING_LENGTH, false},
        {"content-LENGTH:4 \n", SGC_REASON_NONE, SGC_FRAMING_LENGTH, false},
        {"Transfer-Encoding: Chunked\n", SGC_REASON_NONE, SGC_FRAMING_CHUNKED, false},
        {"", SGC_REASON_NONE, SGC_FRAMING_CLOSE, true},
        {"Content-Length: 4\nConnection: close\n", SGC_REASON_NONE, SGC_FRAMING_LENGTH, true},
        {"Content-Length: 4\nTransfer-Encoding: chunked\n", SGC_REASON_NONE, SGC_FRAMING_CHUNKED, true},
        {"Content-Length: 4\nContent-Length: 4\n", SGC_REASON_NONE, SGC_FRAMING_LENGTH, false},
        {"Content-Length: 4\nContent-Length: 5\n", SGC_REASON_FRAMING, SGC_FRAMING_LENGTH, false},
        {"Content-Length: 4, 4\n", SGC_REASON_FRAMING, SGC_FRAMING_LENGTH, false},
        {"Content-Length: -5\n", SGC_REASON_FRAMING, SGC_FRAMING_LENGTH, false},
        {"Content-Length: +5\n", SGC_REASON_FRAMING, SGC_FRAMING_LENGTH, false},
        {"Content-Length:\n", SGC_REASON_FRAMING, SGC_FRAMING_LENGTH, false},
        {"Content-Length: 0x4\n", SGC_REASON_FRAMING, SGC_FRAMING_LENGTH, false},
        {"Content-Length: 99999999999999999999999\n", SGC_REASON_FRAMING, SGC_FRAMING_LENGTH, false},
        {"Content-Length: 9223372036854775807\n", SGC_REASON_LIMIT, SGC_FRAMING_LENGTH, false},
        {"Content-Length: 9223372036854775808\n", SGC_REASON_FRAMING, SGC_FRAMING_LENGTH, false},
        {"Content-Length: 1000\n", SGC_REASON_NONE, SGC_FRAMING_LENGTH, false},
        {"Content-Length: 1001\n", SGC_REASON_LIMIT, SGC_FRAMING_LENGTH, false},
        {"Content-Length : 4\n", SGC_REASON_FRAMING, SGC_FRAMING_NONE, false},
        {"Content-Length: 4\n 5\n", SGC_REASON_FRAMING, SGC_FRAMING_LENGTH, false},
        {"Content-Length: 4\nX-Folded: a\n\tb\n", SGC_REASON_NONE, SGC_FRAMING_LENGTH, false},
        {"Transfer-Encoding: gzip, chunked\n", SGC_REASON_FRAMING, SGC_FRAMING_CHUNKED, false},
        {"Transfer-Encoding: gzip\n", SGC_REASON_FRAMING, SGC_FRAMING_CHUNKED, false},
        {"Transfer-Encoding: chunked\nTransfer-Encoding: chunked\n", SGC_REASON_FRAMING, SGC_FRAMING_CHUNKED,
         false},
        {"Transfer-Encoding:\n chunked\n", SGC_REASON_FRAMING, SGC_FRAMING_CHUNKED, false},
        {"no colon\n", SGC_REASON_FRAMING, SGC_FRAMING_NONE, false},
        {": no name\n", SGC_REASON_FRAMING, SGC_FRAMING_NONE, false},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char head[200];
        seen seen;
        snprintf(head, sizeof head, OK_HEAD "%s\n", rows[i].lines);
        read_answer(&seen, head, "a 1\n", 4, 1000);
        CHECK_MSG(seen.failure.reason == rows[i].reason, "%s: %s", rows[i].lines, seen.failure.what);
        CHECK_MSG(seen.answer.framing == rows[i].framing && seen.answer.closing == rows[i].closing, "%s",
                  rows[i].lines);
        CHECK(seen.going || !seen.answer.body.len);
        sgc__answer_free(&seen.answer);
    }
    seen seen;
    memset(&seen, 0, sizeof seen);
    sgc__answer_init(&seen.answer, &seen.failure, 1000, 0);
    CHECK(sgc__answer_header(&seen.answer, "HTTP/1.1 200 OK\r\n", 17));
    CHECK(!sgc__answer_header(&seen.answer, "X: a\0b\r\n", 8) && seen.failure.reason == SGC_REASON_FRAMING);
}

static void an_interim_answer_says_nothing_of_the_final_one(void)
{
    CHECK(reason_of("HTTP/1.1 103 Hints\nContent-Length: x\nContent-Type: text/html\n\n" OK_HEAD "\n",
                    "a 1\n") == SGC_REASON_NONE);
    CHECK(reason_of("HTTP/1.1 100 Continue\n\nHTTP/1.1 404 x\n\n", "") == SGC_REASON_HTTP_STATUS);
    CHECK(reason_of("HTTP/1.1 100 Continue\n\n", "") == SGC_REASON_FRAMING);
}

static void headers_have_a_ceiling(void)
{
    static const char line[] = "X: yyyyyyy\r\n";
    seen seen;
    size_t n = 1;

    memset(&seen, 0, sizeof seen);
    sgc__answer_init(&seen.answer, &seen.failure, 1000, 0);
    CHECK(sgc__answer_header(&seen.answer, "HTTP/1.1 200 OK\r\n", 17));
    while (sgc__answer_header(&seen.answer, line, sizeof line - 1))
        n++;
    CHECK(n == 256 && seen.failure.reason == SGC_REASON_HEADERS_TOO_LARGE);

    static char wide[40000];
    memset(&seen, 0, sizeof seen);
    memset(wide, 'x', sizeof wide);
    wide[1] = ':';
    sgc__answer_init(&seen.answer, &seen.failure, 1000, 0);
    CHECK(sgc__answer_header(&seen.answer, "HTTP/1.1 200 OK\r\n", 17));
    CHECK(sgc__answer_header(&seen.answer, wide, sizeof wide));
    CHECK(!sgc__answer_header(&seen.answer, wide, sizeof wide));
    CHECK(seen.failure.reason == SGC_REASON_HEADERS_TOO_LARGE);

    memset(&seen, 0, sizeof seen); /* interim answers and trailers count as well */
    sgc__answer_init(&seen.answer, &seen.failure, 1000, 0);
    for (n = 0; seen.failure.reason == SGC_REASON_NONE && n < 1000; n++)
        if (sgc__answer_header(&seen.answer, "HTTP/1.1 103 x\r\n", 16))
            sgc__answer_header(&seen.answer, "\r\n", 2);
    CHECK(n < 200 && seen.failure.reason == SGC_REASON_HEADERS_TOO_LARGE);
    read_answer(&seen, OK_HEAD "Transfer-Encoding: chunked\n\n", "a 1\n", 4, 1000);
    for (n = 0; sgc__answer_header(&seen.answer, line, sizeof line - 1); n++)
        ;
    CHECK(n < 256);
    sgc__answer_free(&seen.answer);
}

static void the_content_type_chooses_the_format(void)
{
    static const struct {
        const char *type;
        sgc_reason reason;
        sgc_format format;
    } rows[] = {
        {"text/plain; version=0.0.4; charset=utf-8", SGC_REASON_NONE, SGC_FORMAT_TEXT},
        {"text/plain", SGC_REASON_NONE, SGC_FORMAT_TEXT},
        {"TEXT/Plain ;x", SGC_REASON_NONE, SGC_FORMAT_TEXT},
        {"", SGC_REASON_NONE, SGC_FORMAT_TEXT},
        {"application/openmetrics-text; version=1.0.0", SGC_REASON_NONE, SGC_FORMAT_OPENMETRICS},
        {"text/html", SGC_REASON_NOT_EXPOSITION, SGC_FORMAT_TEXT},
        {"application/json", SGC_REASON_NOT_EXPOSITION, SGC_FORMAT_TEXT},
        {"application/vnd.google.protobuf", SGC_REASON_NOT_EXPOSITION, SGC_FORMAT_TEXT},
        {"image/png", SGC_REASON_NOT_EXPOSITION, SGC_FORMAT_TEXT},
        {"text/plainx", SGC_REASON_NOT_EXPOSITION, SGC_FORMAT_TEXT},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char head[200];
        seen seen;
        snprintf(head, sizeof head, OK_HEAD "Content-Type: %s\nContent-Length: 4\n\n", rows[i].type);
        read_answer(&seen, head, "a 1\n", 4, 1000);
        CHECK_MSG(seen.failure.reason == rows[i].reason && seen.answer.format == rows[i].format, "%s",
                  rows[i].type);
        sgc__answer_free(&seen.answer);
    }
    CHECK(reason_of(OK_HEAD "\n", "a 1\n") == SGC_REASON_NONE);
}

static void a_page_in_disguise_is_told_by_its_first_bytes(void)
{
    static const struct {
        const char *body;
        sgc_reason reason;
    } rows[] = {
        {"<!DOCTYPE html>\n", SGC_REASON_NOT_EXPOSITION},
        {"\n  <!doctype", SGC_REASON_NOT_EXPOSITION},
        {"<HTML>", SGC_REASON_NOT_EXPOSITION},
        {"{\"detail\": \"secret\"}", SGC_REASON_NOT_EXPOSITION},
        {"{ \"a\\\"\" : 1}\n", SGC_REASON_NOT_EXPOSITION},
        {"{}\n", SGC_REASON_NOT_EXPOSITION},
        {"{", SGC_REASON_NOT_EXPOSITION},
        {"{\"abc", SGC_REASON_NOT_EXPOSITION},
        {"{\"abc\"", SGC_REASON_NOT_EXPOSITION},
        {"{\"abc\\", SGC_REASON_NOT_EXPOSITION},
        {"{\"a.b\"} 1\n", SGC_REASON_NONE},
        {"{\"a.b\", x=\"1\"} 1\n", SGC_REASON_NONE},
        {"a{x=\"{\"} 1\n", SGC_REASON_NONE},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        CHECK_MSG(reason_of(OK_HEAD "Content-Type: text/plain\n\n", rows[i].body) == rows[i].reason, "%s",
                  rows[i].body);
}

static void a_body_that_ends_inside_a_line_is_cut(void)
{
    seen seen;

    read_answer(&seen, OK_HEAD "\n", "a 1\nb 2\nc 12", 12, 1000);
    CHECK(seen.failure.reason == SGC_REASON_TRUNCATED &&
          strstr(seen.failure.what, "body ends inside line 3"));
    sgc__answer_free(&seen.answer);
    CHECK(reason_of(OK_HEAD "Content-Type: application/openmetrics-text\n\n", "a 1\n# EOF") ==
          SGC_REASON_NONE);
    CHECK(reason_of(OK_HEAD "Content-Type: application/openmetrics-text\n\n", "# EOF") == SGC_REASON_NONE);
    CHECK(reason_of(OK_HEAD "Content-Type: application/openmetrics-text\n\n", "a 1# EOF") ==
          SGC_REASON_TRUNCATED);
    CHECK(reason_of(OK_HEAD "Content-Type: application/openmetrics-text\n\n", "a 1\n# EO") ==
          SGC_REASON_TRUNCATED);
    CHECK(reason_of(OK_HEAD "\n", "a 1\n# EOF") == SGC_REASON_TRUNCATED);
    read_answer(&seen, OK_HEAD "Content-Length: 0\n\n", "", 0, 1000);
    CHECK(seen.failure.reason == SGC_REASON_NONE && seen.answer.body.ptr && seen.answer.body.len == 0);
    sgc__answer_free(&seen.answer);
}

static sgc_reason coded(const char *coding, bytes body, uint64_t limit)
{
    char head[200];
    seen seen;

    snprintf(head, sizeof head, OK_HEAD "Content-Encoding: %s\n\n", coding);
    read_answer(&seen, head, body.ptr, body.len, limit);
    CHECK(seen.failure.reason != SGC_REASON_NONE || strncmp(seen.answer.body.ptr, "a 1\n", 4) == 0);
    CHECK(seen.failure.reason != SGC_REASON_LIMIT ||
          (strcmp(seen.failure.parse.limit, "body_bytes") == 0 && seen.failure.parse.allowed == limit));
    sgc__answer_free(&seen.answer);
    return seen.failure.reason;
}

static void only_one_layer_of_gzip_is_undone(void)
{
    bytes plain = {(unsigned char *)"a 1\n", 4}, once = gzip("a 1\n", 4);
    bytes twice = gzip((char *)once.ptr, once.len), both = join(once, once), cut = {once.ptr, once.len - 1};
    char *zeros = calloc(1 << 20, 1);
    bytes bomb = gzip(zeros, 1 << 20);

    CHECK(coded("gzip", once, 4) == SGC_REASON_NONE);
    CHECK(coded("X-GZIP", once, 4) == SGC_REASON_NONE);
    CHECK(coded("gzip", both, 8) == SGC_REASON_NONE);
    CHECK(coded("identity", plain, 4) == SGC_REASON_NONE);
    CHECK(coded("", plain, 4) == SGC_REASON_NONE);
    CHECK(coded("br", plain, 4) == SGC_REASON_ENCODING);
    CHECK(coded("foo\x1b", plain, 4) == SGC_REASON_ENCODING);
    CHECK(coded("gzip, gzip", twice, 100) == SGC_REASON_ENCODING);
    CHECK(coded("gzip\nContent-Encoding: gzip", twice, 100) == SGC_REASON_ENCODING);
    CHECK(coded("gzip", twice, 100) == SGC_REASON_TRUNCATED); /* binary: its last line has no end */
    CHECK(coded("gzip", cut, 4) == SGC_REASON_TRUNCATED);
    CHECK(coded("gzip", (bytes){once.ptr, 0}, 4) == SGC_REASON_TRUNCATED);
    CHECK(coded("gzip", plain, 4) == SGC_REASON_ENCODING);
    CHECK(coded("gzip", once, 3) == SGC_REASON_LIMIT);
    CHECK(coded("gzip", bomb, 100000) == SGC_REASON_LIMIT);
    free(once.ptr);
    free(twice.ptr);
    free(both.ptr);
    free(bomb.ptr);
    free(zeros);
}

static void gzip_that_says_nothing_at_length_is_stopped_too(void)
{
    bytes nothing = gzip("", 0);
    seen seen;
    size_t sent = 0;

    read_answer(&seen, OK_HEAD "Content-Encoding: gzip\n\n", nothing.ptr, nothing.len, 1000);
    while (seen.failure.reason == SGC_REASON_NONE && sent < 1 << 20) {
        sgc__answer_body(&seen.answer, (char *)nothing.ptr, nothing.len);
        sent += nothing.len;
    }
    CHECK(seen.failure.reason == SGC_REASON_LIMIT && sent < 70000);
    sgc__answer_free(&seen.answer);
    free(nothing.ptr);
}

static void a_page_may_be_as_long_as_the_limit(void)
{
    static char body[2000];
    seen seen;

    memset(body, '\n', sizeof body);
    read_answer(&seen, OK_HEAD "\n", body, 1000, 1000);
    CHECK(seen.failure.reason == SGC_REASON_NONE && seen.answer.body.len == 1000);
    sgc__answer_free(&seen.answer);
    read_answer(&seen, OK_HEAD "\n", body, 1001, 1000);
    CHECK(seen.failure.reason == SGC_REASON_LIMIT && strcmp(seen.failure.parse.limit, "body_bytes") == 0);
    CHECK(seen.answer.body.room <= 1000);
    sgc__answer_free(&seen.answer);
}

static void every_reason_has_a_slug_of_its_own(void)
{
    for (int i = 0; i <= SGC_REASON_OUT_OF_MEMORY; i++)
        for (int k = 0; k < i; k++)
            CHECK(strcmp(sgc_reason_slug((sgc_reason)i), sgc_reason_slug((sgc_reason)k)) != 0);
    CHECK(sgc_reason_kind(SGC_REASON_TIMEOUT_TLS) == SGC_FAIL_TIMEOUT);
    CHECK(sgc_reason_kind(SGC_REASON_BAD_URL) == SGC_FAIL_REFUSED);
    CHECK(strcmp(sgc_reason_slug((sgc_reason)1000), "") == 0);
}

/* ------------------------------------------------- the nth allocation fails */

static bool endpoint_made(void)
{
    sgc_header header = {str("X-Key"), str("value")};
    sgc_endpoint_options options;
    sgc_error err;
    sgc_status status;

    sgc_endpoint_options_init(&options);
    options.url = str("http://h/");
    options.headers = &header;
    options.n_headers = 1;
    status = status_of(&options, &err);
    CHECK(status == SGC_OK || (status == SGC_NOMEM && err.code == SGC_NOMEM));
    return status == SGC_OK;
}

static bytes small_gzip;

static bool gzip_read(void)
{
    sgc_reason reason = coded("gzip", small_gzip, 100);

    CHECK(reason == SGC_REASON_NONE || reason == SGC_REASON_OUT_OF_MEMORY);
    return reason == SGC_REASON_NONE;
}

static void every_allocation_failure_is_survived(void)
{
    small_gzip = gzip("a 1\n", 4);
    alloc_install();
    CHECK(alloc_sweep("an endpoint", endpoint_made) > 4);
    CHECK(alloc_sweep("an answer", gzip_read) > 6);
    sgc_allocator_set(NULL);
    free(small_gzip.ptr);
}

int main(void)
{
    a_label_shows_no_credentials_and_no_query_values();
    a_label_has_a_length_whatever_the_url();
    a_url_is_http_with_a_host_and_nothing_odd();
    every_spelling_of_an_ipv4_address_is_normalised();
    a_port_left_out_is_that_of_the_scheme();
    a_timeout_lies_between_a_millisecond_and_an_hour();
    control_characters_in_what_is_sent_are_refused_and_not_repeated();
    a_header_name_is_a_token();
    headers_given_stand_in_for_our_own();
    tls_files_are_loaded_when_the_endpoint_is_made();
    gzip_comes_out_whole_however_it_is_cut_into_pieces();
    cut_gzip_is_not_done();
    damaged_gzip_and_bytes_behind_it_are_errors();
    gzip_stops_at_the_ceiling_and_not_before();
    only_status_200_is_a_page();
    a_refused_answer_is_read_off_only_while_it_is_short();
    the_end_of_the_body_is_told_in_one_way();
    an_interim_answer_says_nothing_of_the_final_one();
    headers_have_a_ceiling();
    the_content_type_chooses_the_format();
    a_page_in_disguise_is_told_by_its_first_bytes();
    a_body_that_ends_inside_a_line_is_cut();
    only_one_layer_of_gzip_is_undone();
    gzip_that_says_nothing_at_length_is_stopped_too();
    a_page_may_be_as_long_as_the_limit();
    every_reason_has_a_slug_of_its_own();
    every_allocation_failure_is_survived();
    return check_done("test_http");
}
