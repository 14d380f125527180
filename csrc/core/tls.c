/*
 * tls.c - are an endpoint's TLS files of use? The one way to know is to let
 * libcurl load them, which it does at the start of a handshake: here with a
 * socket of our own on the loopback, which answers with an end of file.
 */
#define _DEFAULT_SOURCE 1
#define _DARWIN_C_SOURCE 1

#include "http.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

typedef struct probe {
    int listener;
    int server;  /* the far end of the connection */
    bool loaded; /* certificate and key */
} probe;

/* libcurl calls it once the connection stands, with certificate and key loaded.
 * The CA file may follow after the first message is sent. The far end stays
 * open for that: writing to a closed one would raise SIGPIPE. */
static CURLcode on_loaded(CURL *easy, void *context, void *ctx)
{
    probe *probe = ctx;

    (void)easy;
    (void)context;
    probe->loaded = true;
    probe->server = accept(probe->listener, NULL, NULL);
    if (probe->server >= 0)
        shutdown(probe->server, SHUT_WR);
    return CURLE_OK;
}

/* A listening socket on the loopback, and the URL that leads to it; -1: none. */
static int listen_locally(char url[64])
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof addr;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (fd >= 0 && fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 && fcntl(fd, F_SETFL, O_NONBLOCK) == 0 &&
        bind(fd, (struct sockaddr *)&addr, len) == 0 && listen(fd, 1) == 0 &&
        getsockname(fd, (struct sockaddr *)&addr, &len) == 0) {
        snprintf(url, 64, "https://127.0.0.1:%u/", ntohs(addr.sin_port));
        return fd;
    }
    if (fd >= 0)
        close(fd);
    return -1;
}

static CURLcode load(CURL *easy, const sgc_endpoint *endpoint, const char *url, probe *probe)
{
    CURLcode code = sgc__http_configure(easy, endpoint);

    if (code == CURLE_OK)
        code = curl_easy_setopt(easy, CURLOPT_CURLU, NULL);
    if (code == CURLE_OK)
        code = curl_easy_setopt(easy, CURLOPT_URL, url);
    if (code != CURLE_OK)
        return code;
    curl_easy_setopt(easy, CURLOPT_SSL_CTX_FUNCTION, on_loaded);
    curl_easy_setopt(easy, CURLOPT_SSL_CTX_DATA, probe);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, 5000L);
    return curl_easy_perform(easy);
}

static void close_if_open(int fd)
{
    if (fd >= 0)
        close(fd);
}

void sgc__http_check_tls(const sgc_endpoint *endpoint, sgc_failure *failure)
{
    char url[64];
    CURL *easy = curl_easy_init();
    probe probe = {easy ? listen_locally(url) : -1, -1, false};
    CURLcode code = probe.listener >= 0 ? load(easy, endpoint, url, &probe) : CURLE_COULDNT_CONNECT;

    if (!easy || code == CURLE_OUT_OF_MEMORY)
        sgc__failure_memory(failure);
    else if (code == CURLE_SSL_CACERT_BADFILE)
        sgc__failure_set(failure, SGC_REASON_TLS_CONFIG,
                         "ca_file= cannot be loaded; expected certificates in PEM");
    else if (!probe.loaded && code != CURLE_COULDNT_CONNECT)
        sgc__failure_set(failure, SGC_REASON_TLS_CONFIG,
                         "client_cert= or its key cannot be loaded; expected a certificate and its "
                         "unencrypted key in PEM");
    curl_easy_cleanup(easy);
    close_if_open(probe.server);
    close_if_open(probe.listener);
}
