/*
 * endpoint.c - a URL and how to ask it, checked before any packet is sent.
 *
 * The URL is read once, by libcurl's own parser: two parsers that disagree are
 * how filters are walked around. What libcurl is generous about (no scheme,
 * "http:/h", backslashes, user info, letters beyond ASCII) is refused first.
 */
#define _DEFAULT_SOURCE 1 /* inet_pton */
#define _DARWIN_C_SOURCE 1

#include "lesson.h"

#include <arpa/inet.h>
#include <stdio.h>

enum { URL_MAX = 2048 };

#define TIMEOUT_LOW 0.001
#define TIMEOUT_HIGH 3600.0

static const char accept_header[] = "Accept: text/plain;version=0.0.4,*/*;q=0.1";
static const char accept_json_header[] = "Accept: application/json";
static const char encoding_header[] = "Accept-Encoding: gzip";

void sgc_endpoint_options_init(sgc_endpoint_options *options)
{
    memset(options, 0, sizeof *options);
    options->timeout = 10.0;
    options->verify = true;
    sgc_limits_init(&options->limits);
}

/* ------------------------------------------------------------ text helpers */

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool equal_nocase(sgc_str text, const char *word)
{
    size_t i = 0;

    while (i < text.len && word[i] && lower(text.ptr[i]) == word[i])
        i++;
    return i == text.len && word[i] == '\0';
}

/* The place of the first byte of `set` at or after `start`, or the length. */
static size_t find_any(sgc_str text, size_t start, const char *set)
{
    while (start < text.len && !(text.ptr[start] && strchr(set, text.ptr[start])))
        start++;
    return start;
}

static sgc_str slice(sgc_str text, size_t start, size_t end)
{
    return (sgc_str){text.ptr + start, end - start};
}

/* Length of "scheme" before its colon; 0 where there is none. */
static size_t scheme_length(sgc_str url)
{
    size_t i = 0;

    if (url.len == 0 || !is_letter(url.ptr[0]))
        return 0;
    while (i < url.len &&
           (is_letter(url.ptr[i]) || is_digit(url.ptr[i]) || strchr("+-.", url.ptr[i] ? url.ptr[i] : ':')))
        i++;
    return i < url.len && url.ptr[i] == ':' ? i : 0;
}

/* ------------------------------------------------------------------- label */

/* Where the host begins: behind the scheme, its slashes, and the last '@' in
 * front of the path. A password may hold a slash; then what looks like a port
 * is none, and the '@' is looked for in the path as well. */
static size_t host_start(sgc_str url, size_t authority)
{
    size_t end = find_any(url, authority, "/\\?#");
    size_t query = find_any(url, authority, "?#");
    size_t at = SIZE_MAX, colon = SIZE_MAX;

    for (size_t i = authority; i < end; i++) {
        at = url.ptr[i] == '@' ? i : at;
        colon = url.ptr[i] == ':' ? i : url.ptr[i] == ']' ? SIZE_MAX : colon;
    }
    for (size_t i = colon; at == SIZE_MAX && i < end; i++)
        if (i > colon && !is_digit(url.ptr[i]))
            end = query;
    for (size_t i = authority; i < end; i++)
        at = url.ptr[i] == '@' ? i : at;
    return at == SIZE_MAX ? authority : at + 1;
}

static size_t put(char out[SGC_LABEL_SIZE], size_t used, sgc_str text)
{
    sgc__escape(out + used, SGC_LABEL_SIZE - used, text);
    return used + strlen(out + used);
}

/* "?name=&other=": names alone, and none for a part without a value. */
static void put_query(char out[SGC_LABEL_SIZE], size_t used, sgc_str query)
{
    const char *before = "?";
    size_t start = 1;

    while (start < query.len) {
        size_t end = find_any(query, start, "&");
        size_t equals = find_any(slice(query, 0, end), start, "=");
        if (equals < end) {
            used = put(out, used, (sgc_str){before, 1});
            used = put(out, used, slice(query, start, equals + 1));
            before = "&";
        }
        start = end + 1;
    }
}

void sgc_url_label(sgc_str url, char out[SGC_LABEL_SIZE])
{
    size_t scheme = scheme_length(url);
    size_t authority, host, query, fragment, used;

    if (scheme + 1 >= url.len || !strchr("/\\", url.ptr[scheme + 1] ? url.ptr[scheme + 1] : ':'))
        scheme = 0;
    authority = scheme ? scheme + 1 : 0;
    while (authority < url.len && (url.ptr[authority] == '/' || url.ptr[authority] == '\\'))
        authority++;
    host = host_start(url, authority);
    query = find_any(url, host, "?#");
    fragment = find_any(url, host, "#");

    out[0] = '\0';
    used = put(out, 0, slice(url, 0, authority));
    used = put(out, used, slice(url, host, query));
    if (query < fragment)
        put_query(out, used, slice(url, query, fragment));
}

/* --------------------------------------------------------------------- url */

#define REFUSE(failure, ...) (sgc__failure_set((failure), __VA_ARGS__), false)

static bool check_bytes(sgc_str url, sgc_failure *failure)
{
    if (url.len == 0 || url.len > URL_MAX)
        return REFUSE(failure, SGC_REASON_BAD_URL, "URL of %zu bytes; expected 1 to %d", url.len, URL_MAX);
    for (size_t i = 0; i < url.len; i++)
        if (url.ptr[i] <= 0x20 || url.ptr[i] >= 0x7f || url.ptr[i] == '\\')
            return REFUSE(
                failure, SGC_REASON_BAD_URL,
                "byte %zu of the URL is a blank, a backslash, or no printable ASCII; expected it %%-encoded",
                i + 1);
    return true;
}

/* "gpu1:30000" has no scheme, though it looks like one. */
static bool check_scheme(sgc_str url, size_t scheme, sgc_failure *failure)
{
    sgc_str name = {url.ptr, scheme};

    if (scheme == 0 || (scheme + 1 < url.len && is_digit(url.ptr[scheme + 1])))
        return REFUSE(failure, SGC_REASON_BAD_URL, "URL has no scheme; expected http:// or https://");
    if (!equal_nocase(name, "http") && !equal_nocase(name, "https"))
        return REFUSE(failure, SGC_REASON_UNSUPPORTED_SCHEME,
                      "URL scheme is not supported; expected http or https");
    if (url.len < scheme + 4 || memcmp(url.ptr + scheme, "://", 3) != 0 || url.ptr[scheme + 3] == '/')
        return REFUSE(failure, SGC_REASON_BAD_URL, "URL has no host; expected http://host or https://host");
    return true;
}

static bool check_url(sgc_str url, sgc_failure *failure)
{
    size_t scheme = scheme_length(url);
    size_t end;

    if (!check_bytes(url, failure) || !check_scheme(url, scheme, failure))
        return false;
    end = find_any(url, scheme + 3, "/?#");
    if (find_any(slice(url, 0, end), scheme + 3, "@") < end)
        return REFUSE(failure, SGC_REASON_BAD_URL, "URL holds user info; credentials belong in basic_auth=");
    return true;
}

static bool refuse_code(CURLUcode code, sgc_failure *failure)
{
    if (code == CURLUE_OUT_OF_MEMORY)
        sgc__failure_memory(failure);
    else if (code == CURLUE_BAD_PORT_NUMBER)
        sgc__failure_set(failure, SGC_REASON_PORT_NOT_ALLOWED, "URL has no valid port; expected 1 to 65535");
    else
        sgc__failure_set(failure, SGC_REASON_BAD_URL,
                         "URL cannot be read (%s); expected http://host:port/path", curl_url_strerror(code));
    return false;
}

static bool read_part(CURLU *url, CURLUPart part, char *out, size_t size, sgc_failure *failure)
{
    char *text = NULL;
    CURLUcode code = curl_url_get(url, part, &text, CURLU_DEFAULT_PORT);
    size_t len = code == CURLUE_OK ? strlen(text) : 0;

    if (code != CURLUE_OK)
        return refuse_code(code, failure);
    if (len < size)
        memcpy(out, text, len + 1);
    curl_free(text);
    return len < size || REFUSE(failure, SGC_REASON_BAD_URL,
                                "URL has a host of %zu bytes; expected at most %zu", len, size - 1);
}

/* libcurl undoes %-encoding in host names: what comes out must be one. */
static bool check_host(const char *host, sgc_failure *failure)
{
    size_t len = strlen(host);
    size_t plain = strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_");

    if (len == 0 || (host[0] != '[' && plain < len))
        return REFUSE(failure, SGC_REASON_BAD_URL, "URL has no valid host; expected a name or an address");
    return true;
}

static bool is_numeric(const char *host)
{
    struct in_addr addr;

    return host[0] == '[' || inet_pton(AF_INET, host, &addr) == 1;
}

static bool read_url(sgc_endpoint *made, sgc_str url, sgc_failure *failure)
{
    char copy[URL_MAX + 1], port[8];
    CURLUcode code;
    int64_t number;

    if (!check_url(url, failure))
        return false;
    memcpy(copy, url.ptr, url.len);
    copy[url.len] = '\0';
    made->url = curl_url();
    code =
        made->url ? curl_url_set(made->url, CURLUPART_URL, copy, CURLU_DISALLOW_USER) : CURLUE_OUT_OF_MEMORY;
    if (code != CURLUE_OK)
        return refuse_code(code, failure);
    if (!read_part(made->url, CURLUPART_HOST, made->host, sizeof made->host, failure) ||
        !read_part(made->url, CURLUPART_PORT, port, sizeof port, failure) || !check_host(made->host, failure))
        return false;
    if (!sgc__integer_read((sgc_str){port, strlen(port)}, &number) || number < 1 || number > 65535)
        return refuse_code(CURLUE_BAD_PORT_NUMBER, failure);
    made->port = (uint16_t)number;
    made->https = scheme_length(url) == 5;
    made->numeric = is_numeric(made->host);
    return true;
}

/* ----------------------------------------------------------------- options */

/* Text that goes into a request: no way to end a header line early. */
static bool is_clean(sgc_str text)
{
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.ptr[i] < 0x20 ? text.ptr[i] != '\t' : text.ptr[i] == 0x7f)
            return false;
    return true;
}

static bool is_token(sgc_str name)
{
    for (size_t i = 0; i < name.len; i++)
        if (!is_letter(name.ptr[i]) && !is_digit(name.ptr[i]) &&
            !(name.ptr[i] && strchr("!#$%&'*+-.^_`|~", name.ptr[i])))
            return false;
    return name.len > 0;
}

static sgc_status check_options(const sgc_endpoint_options *options, sgc_error *err)
{
    const sgc_str paths[] = {options->ca_file, options->client_cert, options->client_key};

    if (!(options->timeout >= TIMEOUT_LOW && options->timeout <= TIMEOUT_HIGH))
        return sgc__fail_argument(err, "expected a timeout of 0.001 to 3600 seconds", SGC__STR(""));
    for (size_t i = 0; i < options->n_headers; i++) {
        if (!is_token(options->headers[i].name))
            return sgc__fail_argument(err, "expected a header name", options->headers[i].name);
        if (!is_clean(options->headers[i].value))
            return sgc__fail_argument(err, "control character in the value of a header",
                                      options->headers[i].name);
    }
    if (!is_clean(options->user_agent))
        return sgc__fail_argument(err, "control character in the user agent", SGC__STR(""));
    if (options->bearer_token.ptr && !options->bearer_token.len)
        return sgc__fail_argument(err, "the bearer token is empty", SGC__STR(""));
    if (options->bearer_token.ptr && options->basic_user.ptr)
        return sgc__fail_argument(err, "a bearer token and basic credentials; expected one of them",
                                  SGC__STR(""));
    if (!is_clean(options->bearer_token))
        return sgc__fail_argument(err, "control character in the bearer token", SGC__STR(""));
    if (!is_clean(options->basic_user) || !is_clean(options->basic_password) ||
        find_any(options->basic_user, 0, ":") < options->basic_user.len)
        return sgc__fail_argument(err, "control character in the basic credentials, or colon in the user",
                                  SGC__STR(""));
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        if (paths[i].len && memchr(paths[i].ptr, 0, paths[i].len))
            return sgc__fail_argument(err, "NUL in a file name", SGC__STR(""));
    return SGC_OK;
}

/* Copies `from` to *text, behind which the next one goes. */
static const char *keep(char **text, sgc_str from)
{
    char *copy = *text;

    if (!from.ptr)
        return NULL;
    if (from.len)
        memcpy(copy, from.ptr, from.len);
    copy[from.len] = '\0';
    *text += from.len + 1;
    return copy;
}

static sgc_endpoint *copy_options(const sgc_endpoint_options *options)
{
    size_t length = options->user_agent.len + options->bearer_token.len + options->basic_user.len +
                    options->basic_password.len + options->ca_file.len + options->client_cert.len +
                    options->client_key.len + 7;
    sgc_endpoint *made = sgc__alloc(1, sizeof *made + length);
    char *text = made ? made->text : NULL;

    if (!made)
        return NULL;
    atomic_init(&made->refs, 1);
    atomic_init(&made->slot, UINT_MAX);
    atomic_init(&made->body, 0);
    atomic_init(&made->rest, 1);
    atomic_init(&made->useless, 0);
    made->timeout = options->timeout;
    made->verify = options->verify;
    made->json = options->json;
    made->limits = options->limits;
    made->user_agent = options->user_agent.len ? keep(&text, options->user_agent) : NULL;
    made->bearer_token = keep(&text, options->bearer_token);
    made->basic_user = keep(&text, options->basic_user);
    made->basic_password = keep(&text, options->basic_password);
    made->ca_file = keep(&text, options->ca_file);
    made->client_cert = keep(&text, options->client_cert);
    made->client_key = keep(&text, options->client_key);
    return made;
}

static bool add_header(sgc_endpoint *made, const char *line)
{
    struct curl_slist *list = curl_slist_append(made->headers, line);

    if (list)
        made->headers = list;
    return list != NULL;
}

/* "Name: value", or "Name;", which is how libcurl wants a header without value. */
static bool add_option(sgc_endpoint *made, const sgc_header *header)
{
    sgc_str value = header->value;
    sgc__buf line;
    bool added = false;

    while (value.len && strchr(" \t", value.ptr[0])) {
        value.ptr++;
        value.len--;
    }
    sgc__buf_init(&line, SIZE_MAX);
    if (sgc__buf_append(&line, header->name.ptr, header->name.len) == SGC_OK &&
        sgc__buf_append(&line, value.len ? ": " : ";", value.len ? 2 : 1) == SGC_OK &&
        sgc__buf_append(&line, value.ptr, value.len) == SGC_OK && sgc__buf_append(&line, "", 1) == SGC_OK)
        added = add_header(made, line.ptr);
    sgc__buf_free(&line);
    return added;
}

static bool add_headers(sgc_endpoint *made, const sgc_endpoint_options *options)
{
    bool accept = false, encoding = false;

    for (size_t i = 0; i < options->n_headers; i++) {
        accept |= equal_nocase(options->headers[i].name, "accept");
        encoding |= equal_nocase(options->headers[i].name, "accept-encoding");
        if (!add_option(made, &options->headers[i]))
            return false;
    }
    return (accept || add_header(made, options->json ? accept_json_header : accept_header)) &&
           (encoding || add_header(made, encoding_header));
}

/* ---------------------------------------------------------------- endpoint */

sgc_status sgc_endpoint_new(const sgc_endpoint_options *options, sgc_endpoint **endpoint,
                            sgc_failure *failure, sgc_error *err)
{
    sgc_endpoint *made = NULL;
    sgc_status status = check_options(options, err);

    *endpoint = NULL;
    memset(failure, 0, sizeof *failure);
    if (status != SGC_OK)
        return status;
    made = sgc__http_init() ? copy_options(options) : NULL;
    if (!made || !add_headers(made, options)) {
        sgc_endpoint_free(made);
        return sgc__fail_memory(err);
    }
    if (read_url(made, options->url, failure) && (made->ca_file || made->client_cert))
        sgc__http_check_tls(made, failure);
    if (failure->reason != SGC_REASON_NONE)
        sgc_endpoint_free(made);
    else
        *endpoint = made;
    if (failure->reason != SGC_REASON_OUT_OF_MEMORY)
        return SGC_OK;
    memset(failure, 0, sizeof *failure);
    return sgc__fail_memory(err);
}

sgc_endpoint *sgc_endpoint_retain(sgc_endpoint *endpoint)
{
    atomic_fetch_add_explicit(&endpoint->refs, 1, memory_order_relaxed);
    return endpoint;
}

void sgc_endpoint_free(sgc_endpoint *endpoint)
{
    if (!endpoint || atomic_fetch_sub_explicit(&endpoint->refs, 1, memory_order_acq_rel) > 1)
        return;
    sgc__lesson_free(atomic_load(&endpoint->lesson));
    curl_url_cleanup(endpoint->url);
    curl_slist_free_all(endpoint->headers);
    sgc__release(endpoint);
}
