/*
 * http.c - one exchange through libcurl: how a handle is set up, what its
 * callbacks note, and what a failure amounts to. libcurl gives one code to a
 * refused connection, a full file table and a veto of our own, so a failure is
 * named by what we saw first, and by its code only then.
 */
#define _DEFAULT_SOURCE 1 /* SOCK_CLOEXEC */
#define _DARWIN_C_SOURCE 1

#include "shard.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

/* ------------------------------------------------------------------ set-up */

static pthread_once_t init_once = PTHREAD_ONCE_INIT;
static CURLcode init_code = CURLE_FAILED_INIT;

/* Where systems keep their authorities. A libcurl that came in a wheel was built
 * on another one, and the place that it knows may not be there. */
static const char *const ca_bundles[] = {
    "/etc/ssl/certs/ca-certificates.crt", /* Debian, Ubuntu, Alpine, Arch */
    "/etc/pki/tls/certs/ca-bundle.crt",   /* Fedora, RHEL */
    "/etc/ssl/ca-bundle.pem",             /* openSUSE */
    "/etc/ssl/cert.pem",                  /* macOS, FreeBSD */
};
static const char *ca_bundle; /* in the place of libcurl's own; NULL: that one stands */

static const char *find_ca_bundle(void)
{
    const char *own = curl_version_info(CURLVERSION_NOW)->cainfo;

    if (!own || access(own, R_OK) == 0)
        return NULL;
    for (size_t i = 0; i < sizeof ca_bundles / sizeof *ca_bundles; i++)
        if (access(ca_bundles[i], R_OK) == 0)
            return ca_bundles[i];
    return NULL;
}

static void init(void)
{
    init_code = curl_global_init(CURL_GLOBAL_DEFAULT);
    ca_bundle = find_ca_bundle();
}

bool sgc__http_init(void)
{
    pthread_once(&init_once, init);
    return init_code == CURLE_OK;
}

static const struct {
    CURLoption option;
    long value;
} fixed_numbers[] = {
    {CURLOPT_NOSIGNAL, 1},
    {CURLOPT_QUICK_EXIT, 1}, /* a look-up that is given up must not be waited for */
    {CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1},
    {CURLOPT_HTTP09_ALLOWED, 0},
    {CURLOPT_FOLLOWLOCATION, 0},
    {CURLOPT_MAXREDIRS, 0},
    {CURLOPT_UNRESTRICTED_AUTH, 0},
    {CURLOPT_NETRC, CURL_NETRC_IGNORED},
    {CURLOPT_TCP_NODELAY, 1},
    {CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2},
    {CURLOPT_MAXLIFETIME_CONN, 300},
    {CURLOPT_SSL_SESSIONID_CACHE, 0}, /* a session taken up again shows no certificate to check */
};

static const struct {
    CURLoption option;
    const char *value;
} fixed_texts[] = {
    {CURLOPT_PROTOCOLS_STR, "http,https"},
    {CURLOPT_REDIR_PROTOCOLS_STR, "http,https"},
    {CURLOPT_PROXY, ""}, /* the environment's proxies would be connected to in our place */
    {CURLOPT_NOPROXY, "*"},
};

#define SET(code, easy, option, value)                            \
    do {                                                          \
        if ((code) == CURLE_OK)                                   \
            (code) = curl_easy_setopt((easy), (option), (value)); \
    } while (0)

static CURLcode set_credentials(CURL *easy, const sgc_endpoint *endpoint)
{
    CURLcode code = CURLE_OK;

    if (endpoint->bearer_token) {
        SET(code, easy, CURLOPT_HTTPAUTH, (long)CURLAUTH_BEARER);
        SET(code, easy, CURLOPT_XOAUTH2_BEARER, endpoint->bearer_token);
    } else if (endpoint->basic_user) {
        SET(code, easy, CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
        SET(code, easy, CURLOPT_USERNAME, endpoint->basic_user);
        SET(code, easy, CURLOPT_PASSWORD, endpoint->basic_password ? endpoint->basic_password : "");
    }
    return code;
}

static CURLcode set_tls(CURL *easy, const sgc_endpoint *endpoint)
{
    CURLcode code = CURLE_OK;
    const char *ca_file = endpoint->ca_file ? endpoint->ca_file : ca_bundle;

    SET(code, easy, CURLOPT_SSL_VERIFYPEER, endpoint->verify ? 1L : 0L);
    SET(code, easy, CURLOPT_SSL_VERIFYHOST, endpoint->verify ? 2L : 0L);
    if (ca_file)
        SET(code, easy, CURLOPT_CAINFO, ca_file);
    /* Certificates of one file are read once for all connections, those of a
     * directory beside it for each anew; and a file that was given counts alone. */
    if (endpoint->ca_file || curl_version_info(CURLVERSION_NOW)->cainfo)
        SET(code, easy, CURLOPT_CAPATH, (char *)NULL);
    if (endpoint->client_cert) {
        SET(code, easy, CURLOPT_SSLCERT, endpoint->client_cert);
        SET(code, easy, CURLOPT_SSLKEY, endpoint->client_key ? endpoint->client_key : endpoint->client_cert);
        SET(code, easy, CURLOPT_KEYPASSWD, ""); /* else OpenSSL asks whoever sits at the terminal */
    }
    return code;
}

CURLcode sgc__http_configure(CURL *easy, const sgc_endpoint *endpoint)
{
    CURLcode code = CURLE_OK;

    for (size_t i = 0; i < sizeof fixed_numbers / sizeof *fixed_numbers; i++)
        SET(code, easy, fixed_numbers[i].option, fixed_numbers[i].value);
    for (size_t i = 0; i < sizeof fixed_texts / sizeof *fixed_texts; i++)
        SET(code, easy, fixed_texts[i].option, fixed_texts[i].value);
    SET(code, easy, CURLOPT_CURLU, endpoint->url);
    SET(code, easy, CURLOPT_HTTPHEADER, endpoint->headers);
    SET(code, easy, CURLOPT_USERAGENT, endpoint->user_agent);
    if (code == CURLE_OK)
        code = set_credentials(easy, endpoint);
    return code == CURLE_OK ? set_tls(easy, endpoint) : code;
}

/* --------------------------------------------------------------- callbacks */

static void end_lookup(sgc__http *http)
{
    if (!http->looking)
        return;
    http->looking = false;
    --*http->lookups;
}

static sgc_str host_of(const sgc__http *http)
{
    return (sgc_str){http->endpoint->host, strlen(http->endpoint->host)};
}

/* Nothing of the address is told: whoever may not connect may not probe. */
static bool is_allowed(sgc__http *http, const struct sockaddr *addr)
{
    if (http->guard && !sgc_guard_allows_address(http->guard, host_of(http), addr))
        sgc__failure_set(
            http->answer.failure, SGC_REASON_ADDRESS_NOT_ALLOWED,
            "host leads to an address that is not allowed; expected none but those that the guard lists");
    return http->answer.failure->reason == SGC_REASON_NONE;
}

/* A name that leads to a denied address beside good ones is refused as a whole.
 * libcurl shows one address at a time, and the next one where a socket does not
 * come about: in a first round none does, until it has shown them all. */
static bool shows_only(sgc__http *http)
{
    http->showing = http->guard && !http->endpoint->numeric && !http->shown;
    if (http->showing)
        sgc__shard_hurry(http->shard);
    return http->showing;
}

/* Messages of a TLS handshake, as OpenSSL shows them to whoever debugs: a byte
 * of type, three of length, and so much. */
static int on_debug(CURL *easy, curl_infotype what, char *data, size_t size, void *ctx)
{
    enum { HEAD = 4, CERTIFICATE_REQUEST = 13 };
    const unsigned char *head = (const unsigned char *)data;
    sgc__http *http = ctx;

    (void)easy;
    if (what == CURLINFO_SSL_DATA_IN && size > HEAD && head[0] == CERTIFICATE_REQUEST)
        http->wants_cert |= size - HEAD == (size_t)((head[1] << 16) | (head[2] << 8) | head[3]);
    return 0;
}

/* Only while hands are shaken: for what comes then it would cost time. */
static void watch_handshake(sgc__http *http, bool on)
{
    if (!http->endpoint->https || http->watched == on)
        return;
    http->watched = on;
    curl_easy_setopt(http->easy, CURLOPT_VERBOSE, on ? 1L : 0L);
    curl_easy_setopt(http->easy, CURLOPT_DEBUGFUNCTION, on ? on_debug : NULL);
    curl_easy_setopt(http->easy, CURLOPT_DEBUGDATA, http);
}

static curl_socket_t on_socket(void *ctx, curlsocktype purpose, struct curl_sockaddr *addr)
{
    sgc__http *http = ctx;
    bool show;
    int flags = 0;

    (void)purpose;
    end_lookup(http);
    watch_handshake(http, true);
    http->opened = true;
    http->asked = false; /* it was, where libcurl gives a dead connection up by itself */
    if (addr->addrlen <= sizeof http->peer)
        memcpy(&http->peer, &addr->addr, addr->addrlen);
    show = shows_only(http);
    if (!is_allowed(http, &addr->addr) || show)
        return CURL_SOCKET_BAD;
#ifdef SOCK_CLOEXEC
    flags = SOCK_CLOEXEC;
#endif
    http->fd = socket(addr->family, addr->socktype | flags, addr->protocol);
    http->open_errno = http->fd < 0 ? errno : 0;
    if (http->fd >= 0 && !sgc__shard_opened(http->shard, http->fd)) {
        sgc__failure_memory(http->answer.failure);
        close(http->fd);
        http->fd = -1;
    }
    return http->fd < 0 ? CURL_SOCKET_BAD : http->fd;
}

/* Perhaps long after the scrape it was opened for. Where no connection came about
 * there may be another address, which libcurl 7.88 tries only when it is asked again. */
static int on_close(void *ctx, curl_socket_t fd)
{
    struct sockaddr_in6 peer;
    socklen_t len = sizeof peer;

    if (getpeername(fd, (struct sockaddr *)&peer, &len) != 0)
        sgc__shard_hurry(ctx);
    sgc__shard_closing(ctx, fd);
    return close(fd);
}

/* An address as libcurl tells it. */
static void read_address(const char *ip, int port, struct sockaddr_in6 *addr)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};

    *addr = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, ip, &v4.sin_addr) == 1)
        memcpy(addr, &v4, sizeof v4);
    else
        inet_pton(AF_INET6, ip, &addr->sin6_addr);
}

static bool is_same(const struct sockaddr_in6 *a, const struct sockaddr_in6 *b)
{
    struct sockaddr_in a4, b4;

    if (a->sin6_family != b->sin6_family || a->sin6_port != b->sin6_port)
        return false; /* IPv4 has its port at the same place */
    if (a->sin6_family == AF_INET6)
        return memcmp(&a->sin6_addr, &b->sin6_addr, sizeof a->sin6_addr) == 0;
    memcpy(&a4, a, sizeof a4);
    memcpy(&b4, b, sizeof b4);
    return a4.sin_addr.s_addr == b4.sin_addr.s_addr;
}

static int port_of(int fd)
{
    struct sockaddr_in6 addr;
    socklen_t len = sizeof addr;

    if (fd < 0 || getsockname(fd, (struct sockaddr *)&addr, &len) != 0)
        return -1;
    return ntohs(addr.sin6_port);
}

/* The same of a socket of the shard's, which the system is asked for once: of many
 * connections to one server any may be meant. */
static int known_port_of(sgc__shard *shard, int fd)
{
    uint16_t *port = sgc__shard_port(shard, fd);

    if (*port == 0 && port_of(fd) > 0)
        *port = (uint16_t)port_of(fd);
    return *port;
}

static bool is_connected_to(int fd, const struct sockaddr_in6 *peer)
{
    struct sockaddr_in6 addr = {0};
    socklen_t len = sizeof addr;

    return getpeername(fd, (struct sockaddr *)&addr, &len) == 0 && is_same(&addr, peer);
}

/* The socket of a kept connection, which may have been opened for another
 * endpoint of the same server; -1. */
static int find_socket(const sgc__http *http, const struct sockaddr_in6 *peer, int local_port)
{
    int fd = -1;

    if (http->fd >= 0 && http->local_port == local_port)
        return http->fd;
    do {
        fd = sgc__shard_next(http->shard, fd);
    } while (fd >= 0 && (known_port_of(http->shard, fd) != local_port || !is_connected_to(fd, peer)));
    return fd;
}

/* OpenSSL's, where libcurl brings that along; else NULL. */
__attribute__((weak)) int SSL_has_pending(const void *ssl);

/* Has OpenSSL taken bytes from the socket that nobody has read? Of a record libcurl
 * reads no more than the answer's length, and newer ones let it read ahead. */
static bool holds_bytes(CURL *easy)
{
    const struct curl_tlssessioninfo *tls = NULL;

    curl_easy_getinfo(easy, CURLINFO_TLS_SSL_PTR, &tls);
    return SSL_has_pending && tls && tls->backend == CURLSSLBACKEND_OPENSSL && tls->internals &&
           SSL_has_pending(tls->internals) == 1;
}

/* Has the server closed a kept connection, or sent what nobody asked for? The
 * latter would be read as the start of the next answer. libcurl looks for the
 * first alone, or for neither. Of TLS it may be a message that means nothing to
 * us: a new connection is all that it costs. */
static bool is_stale(const sgc__http *http)
{
    char byte;
    ssize_t n = recv(http->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

    return n >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) ||
           (http->endpoint->https && holds_bytes(http->easy));
}

/* Just before the request is sent, over a new or a kept connection. libcurl
 * itself asks again where a kept one turns out to be dead: once is enough. */
static int on_request(void *ctx, char *remote_ip, char *local_ip, int remote_port, int local_port)
{
    sgc__http *http = ctx;
    struct sockaddr_in6 peer;

    (void)local_ip;
    end_lookup(http);
    read_address(remote_ip, remote_port, &peer);
    if (!is_allowed(http, (struct sockaddr *)&peer))
        return CURL_PREREQFUNC_ABORT;
    if (http->opened)
        http->fd = port_of(http->fd) == local_port ? http->fd : -1;
    else
        http->fd = find_socket(http, &peer, local_port);
    http->local_port = local_port;
    if (!http->opened && (http->asked || http->fd < 0 || is_stale(http))) {
        http->again = true;
        return CURL_PREREQFUNC_ABORT;
    }
    watch_handshake(http, false);
    http->asked = true;
    http->requests++;
    return CURL_PREREQFUNC_OK;
}

static size_t on_header(char *data, size_t size, size_t n, void *ctx)
{
    sgc__http *http = ctx;
    size_t len = size * n;

    if (!sgc__answer_header(&http->answer, data, len))
        return len + 1;
    if (http->answer.headers_done && http->answer.closing && !http->forbidden) {
        http->forbidden = true;
        curl_easy_setopt(http->easy, CURLOPT_FORBID_REUSE, 1L);
    }
    return len;
}

static size_t on_body(char *data, size_t size, size_t n, void *ctx)
{
    sgc__http *http = ctx;

    return sgc__answer_body(&http->answer, data, size * n) ? size * n : CURL_WRITEFUNC_ERROR;
}

/* ----------------------------------------------------------------- handles */

static CURLcode set_callbacks(sgc__http *http)
{
    CURLcode code = CURLE_OK;

    SET(code, http->easy, CURLOPT_PRIVATE, http);
    SET(code, http->easy, CURLOPT_ERRORBUFFER, http->why);
    SET(code, http->easy, CURLOPT_OPENSOCKETFUNCTION, on_socket);
    SET(code, http->easy, CURLOPT_OPENSOCKETDATA, http);
    SET(code, http->easy, CURLOPT_CLOSESOCKETFUNCTION, on_close);
    SET(code, http->easy, CURLOPT_CLOSESOCKETDATA, http->shard);
    SET(code, http->easy, CURLOPT_PREREQFUNCTION, on_request);
    SET(code, http->easy, CURLOPT_PREREQDATA, http);
    SET(code, http->easy, CURLOPT_HEADERFUNCTION, on_header);
    SET(code, http->easy, CURLOPT_HEADERDATA, http);
    SET(code, http->easy, CURLOPT_WRITEFUNCTION, on_body);
    SET(code, http->easy, CURLOPT_WRITEDATA, http);
    return code;
}

static void drop_handle(sgc__http *http)
{
    curl_easy_cleanup(http->easy);
    http->easy = NULL;
}

void sgc__http_free(sgc__http *http)
{
    sgc__answer_free(&http->answer);
    drop_handle(http);
    sgc_endpoint_free(http->endpoint);
    http->endpoint = NULL;
}

const char *sgc_curl_version(void)
{
    return curl_version_info(CURLVERSION_NOW)->version;
}

CURLcode sgc__http_prepare(sgc__http *http, sgc_endpoint *endpoint)
{
    CURLcode code;

    if (http->easy && http->endpoint == endpoint)
        return CURLE_OK;
    if (http->endpoint != endpoint) {
        sgc_endpoint_free(http->endpoint);
        http->endpoint = sgc_endpoint_retain(endpoint);
        http->fd = -1;
    }
    if (http->easy)
        curl_easy_reset(http->easy);
    else
        http->easy = curl_easy_init();
    code = http->easy ? sgc__http_configure(http->easy, endpoint) : CURLE_OUT_OF_MEMORY;
    if (code == CURLE_OK)
        code = set_callbacks(http);
    if (code != CURLE_OK)
        drop_handle(http);
    return code;
}

void sgc__http_place(sgc__http *http, sgc__shard *shard)
{
    http->shard = shard;
    if (http->easy)
        curl_easy_setopt(http->easy, CURLOPT_CLOSESOCKETDATA, shard);
}

/* Room to receive a page about as long as the last in one call, where few are
 * under way: buffers of many would push each other out of the caches. */
static long buffer_size(const sgc__shard *shard, size_t hint)
{
    enum { LEAST = 16 << 10, MOST = 96 << 10, HEADERS = 1 << 10, FEW = 4 };

    if (shard->active >= FEW || hint + HEADERS < LEAST)
        return LEAST;
    return hint + HEADERS < MOST ? (long)(hint + HEADERS) : MOST;
}

CURLcode sgc__http_begin(sgc__http *http, sgc_failure *failure, long timeout_ms, bool fresh)
{
    size_t hint = atomic_load_explicit(&http->endpoint->body, memory_order_relaxed);
    CURLcode code = CURLE_OK;

    sgc__answer_init(&http->answer, failure, http->endpoint->limits.body_bytes, hint + hint / 8);
    http->answer.json = http->endpoint->json;
    http->opened = http->asked = http->again = http->showing = http->wants_cert = false;
    watch_handshake(http, false);
    http->open_errno = 0;
    http->why[0] = '\0';
    memset(&http->peer, 0, sizeof http->peer);
    SET(code, http->easy, CURLOPT_TIMEOUT_MS, timeout_ms);
    SET(code, http->easy, CURLOPT_BUFFERSIZE, buffer_size(http->shard, hint));
    if (http->fresh != fresh)
        SET(code, http->easy, CURLOPT_FRESH_CONNECT, fresh ? 1L : 0L);
    if (http->forbidden)
        SET(code, http->easy, CURLOPT_FORBID_REUSE, 0L);
    http->fresh = fresh;
    http->forbidden = false;
    return code;
}

void sgc__http_release(sgc__http *http, bool keep)
{
    end_lookup(http);
    sgc__answer_free(&http->answer);
    http->requests = 0;
    http->doubted = http->shown = false;
    if (keep)
        return;
    drop_handle(http);
    http->fresh = http->forbidden = http->watched = false;
}
