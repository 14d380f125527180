/*
 * guard.c - which hosts may be looked up, and which socket addresses connected to.
 *
 * A guard is a list of rules, read once and never changed. Text of a URL proves
 * nothing (there are dozens of ways to write 127.0.0.1), so a rule about
 * addresses is applied to the address a socket is about to connect to. The host
 * is judged first only to spare look-ups of names that nobody listed.
 */
#define _DEFAULT_SOURCE 1 /* inet_aton */
#define _DARWIN_C_SOURCE 1

#include "sgc_int.h"
#include "sgc_scrape.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <sys/socket.h>

enum { PORT_LOW = 30000, PORT_HIGH = 30099, HOST_MAX = 253, NUMERIC_MAX = 63 };

/* An address in network order; IPv4 lies in the first four bytes. */
typedef struct address {
    unsigned char bytes[16];
    bool v6;
} address;

typedef enum { RULE_ANY, RULE_NET, RULE_NAME } rule_kind;

typedef struct rule {
    rule_kind kind;
    uint16_t low, high; /* ports */
    address net;
    unsigned bits;
    sgc_str name; /* lower case; '*' stands for any bytes but dots */
} rule;

struct sgc_guard {
    atomic_uint refs;
    size_t n;
    rule *rules;
    char *text;
};

/* --------------------------------------------------------------- ranges */

typedef struct range {
    unsigned char bytes[16];
    unsigned bits;
    bool v6;
} range;

static bool prefix_equal(const unsigned char *a, const unsigned char *b, unsigned bits)
{
    unsigned whole = bits / 8, rest = bits % 8;

    if (memcmp(a, b, whole) != 0)
        return false;
    return rest == 0 || ((a[whole] ^ b[whole]) >> (8 - rest)) == 0;
}

static bool in_ranges(const address *addr, const range *ranges, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (ranges[i].v6 == addr->v6 && prefix_equal(addr->bytes, ranges[i].bytes, ranges[i].bits))
            return true;
    return false;
}

#define IN_RANGES(addr, ranges) in_ranges((addr), (ranges), sizeof(ranges) / sizeof *(ranges))

/* Never meant by a list of servers: this host, link-local (cloud metadata),
 * site-local, multicast, reserved and broadcast, the metadata services that
 * live outside those, and a site's own NAT64, whose inner address may lie
 * anywhere. */
static const range always_denied[] = {
    {{0}, 8, false},
    {{169, 254}, 16, false},
    {{224}, 4, false},
    {{240}, 4, false},
    {{100, 100, 100, 200}, 32, false},
    {{168, 63, 129, 16}, 32, false},
    {{0}, 128, true},
    {{0xfe, 0x80}, 10, true},
    {{0xfe, 0xc0}, 10, true},
    {{0xff}, 8, true},
    {{0xfd, 0x00, 0x0e, 0xc2, [14] = 0x02, [15] = 0x54}, 128, true},
    {{0x00, 0x64, 0xff, 0x9b, 0x00, 0x01}, 48, true},
};

static const range loopback[] = {
    {{127}, 8, false},
    {{[15] = 1}, 128, true},
};

static const range private_ranges[] = {
    {{10}, 8, false},       {{172, 16}, 12, false}, {{192, 168}, 16, false},
    {{100, 64}, 10, false}, {{0xfc}, 7, true},
};

/* IPv6 that carries an IPv4 address: where its four bytes begin, and whether
 * they are inverted. */
static const struct {
    range net;
    unsigned at;
    bool inverted;
} embeddings[] = {
    {{{[10] = 0xff, [11] = 0xff}, 96, true}, 12, false}, /* mapped */
    {{{0}, 96, true}, 12, false},                        /* compatible */
    {{{0x00, 0x64, 0xff, 0x9b}, 96, true}, 12, false},   /* NAT64 */
    {{{0x20, 0x02}, 16, true}, 2, false},                /* 6to4 */
    {{{0x20, 0x01, 0x00, 0x00}, 32, true}, 12, true},    /* Teredo */
};

/* True where `addr` embeds an IPv4 address, which becomes *inner. */
static bool unwrap(const address *addr, address *inner)
{
    if (!addr->v6 || IN_RANGES(addr, loopback))
        return false;
    for (size_t i = 0; i < sizeof embeddings / sizeof *embeddings; i++) {
        if (!in_ranges(addr, &embeddings[i].net, 1))
            continue;
        memset(inner, 0, sizeof *inner);
        for (unsigned k = 0; k < 4; k++)
            inner->bytes[k] = addr->bytes[embeddings[i].at + k] ^ (embeddings[i].inverted ? 0xff : 0);
        return true;
    }
    return false;
}

/* --------------------------------------------------------- reading entries */

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static sgc_str from(sgc_str text, size_t start)
{
    return (sgc_str){text.ptr + start, text.len - start};
}

/* The place of `c`, or the length. */
static size_t find(sgc_str text, char c)
{
    const char *at = text.len ? memchr(text.ptr, c, text.len) : NULL;

    return at ? (size_t)(at - text.ptr) : text.len;
}

static bool read_number(sgc_str text, unsigned high, unsigned *value)
{
    *value = 0;
    if (text.len == 0 || text.len > 5)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (!is_digit(text.ptr[i]))
            return false;
        *value = *value * 10 + (unsigned)(text.ptr[i] - '0');
    }
    return *value <= high;
}

/* "30000" or "30000-30099" */
static bool read_ports(sgc_str text, rule *rule)
{
    size_t dash = find(text, '-');
    sgc_str last = dash < text.len ? from(text, dash + 1) : text;
    unsigned low, high;

    if (!read_number((sgc_str){text.ptr, dash}, 65535, &low) || !read_number(last, 65535, &high))
        return false;
    if (low == 0 || low > high)
        return false;
    rule->low = (uint16_t)low;
    rule->high = (uint16_t)high;
    return true;
}

static bool read_address(sgc_str text, address *addr)
{
    char copy[NUMERIC_MAX + 1];

    memset(addr, 0, sizeof *addr);
    if (text.len == 0 || text.len > NUMERIC_MAX || memchr(text.ptr, 0, text.len))
        return false;
    memcpy(copy, text.ptr, text.len);
    copy[text.len] = '\0';
    if (inet_pton(AF_INET, copy, addr->bytes) == 1)
        return true;
    addr->v6 = true;
    return inet_pton(AF_INET6, copy, addr->bytes) == 1;
}

/* An address with or without "/bits". */
static bool read_net(sgc_str text, rule *rule)
{
    size_t slash = find(text, '/');
    unsigned most;

    if (!read_address((sgc_str){text.ptr, slash}, &rule->net))
        return false;
    most = rule->net.v6 ? 128 : 32;
    rule->kind = RULE_NET;
    rule->bits = most;
    return slash == text.len || read_number(from(text, slash + 1), most, &rule->bits);
}

/* A host name, '*' allowed. One that ends with a number, or is made of numbers
 * and stars alone, is a mistyped address: no name could ever match it. */
static bool read_name(sgc_str text, rule *rule)
{
    bool start = true;  /* a label must begin here */
    bool number = true; /* the last label so far */
    bool letters = false, dots = false;

    if (text.len == 0 || text.len > HOST_MAX)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        char c = lower(text.ptr[i]);
        bool letter = c >= 'a' && c <= 'z';
        if (c == '.' ? start : !letter && !is_digit(c) && (c == 0 || !strchr("-_*", c)))
            return false;
        number = c == '.' || (number && is_digit(c));
        start = c == '.';
        letters |= letter;
        dots |= start;
    }
    rule->kind = RULE_NAME;
    rule->name = text;
    return !start && !number && (letters || !dots);
}

static bool starts_nocase(sgc_str text, const char *with)
{
    size_t i = 0;

    while (with[i] && i < text.len && lower(text.ptr[i]) == with[i])
        i++;
    return with[i] == '\0';
}

/* Cuts a URL down to its host and port; the scheme gives the port it leaves out. */
static void cut_url(sgc_str *entry, rule *rule)
{
    bool http = starts_nocase(*entry, "http://"), https = starts_nocase(*entry, "https://");
    size_t end = 0;

    if (!http && !https)
        return;
    *entry = from(*entry, https ? 8 : 7);
    rule->low = rule->high = https ? 443 : 80;
    while (end < entry->len && !strchr("/?#", entry->ptr[end]))
        end++;
    entry->len = end;
}

/* Splits "[net]:ports", "net:ports" and "name:ports"; false where a bracket
 * stays open. A bare IPv6 net has colons of its own, and so no ports. */
static bool split_entry(sgc_str entry, sgc_str *host, sgc_str *ports)
{
    bool brackets = entry.len && entry.ptr[0] == '[';
    size_t end = find(entry, brackets ? ']' : ':');

    if (brackets && end == entry.len)
        return false;
    *host = brackets ? (sgc_str){entry.ptr + 1, end - 1} : (sgc_str){entry.ptr, end};
    *ports = from(entry, brackets ? end + 1 : end);
    if (!brackets && ports->len && find(from(*ports, 1), ':') < ports->len - 1) {
        *host = entry;
        *ports = from(entry, entry.len);
    }
    return true;
}

static bool read_entry(sgc_str entry, rule *rule)
{
    sgc_str host, ports;

    memset(rule, 0, sizeof *rule);
    rule->low = PORT_LOW;
    rule->high = PORT_HIGH;
    cut_url(&entry, rule);
    if (!split_entry(entry, &host, &ports))
        return false;
    if (ports.len && (ports.ptr[0] != ':' || !read_ports(from(ports, 1), rule)))
        return false;
    if (entry.len && entry.ptr[0] == '[')
        return read_net(host, rule) && rule->net.v6;
    if (sgc__eq(host, SGC__STR("*"))) {
        rule->kind = RULE_ANY;
        return true;
    }
    return read_net(host, rule) || read_name(host, rule);
}

static char *keep_name(rule *rule, char *text)
{
    for (size_t i = 0; i < rule->name.len; i++)
        text[i] = lower(rule->name.ptr[i]);
    rule->name.ptr = text;
    return text + rule->name.len;
}

/* A socket to 0.0.0.0 or :: ends at the loopback address and is reported there
 * by some systems: who lists the one means the other too. */
static bool is_unspecified(const rule *rule)
{
    static const address zero;

    return rule->kind == RULE_NET && rule->bits == (rule->net.v6 ? 128u : 32u) &&
           memcmp(rule->net.bytes, zero.bytes, sizeof zero.bytes) == 0;
}

static void add_loopback(rule *rules, size_t *n, const rule *like)
{
    rule *added = &rules[(*n)++];

    *added = *like;
    memcpy(added->net.bytes, like->net.v6 ? "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1" : "\x7f\0\0\1",
           like->net.v6 ? 16 : 4);
}

static sgc_status read_entries(sgc_guard *guard, const sgc_str *entries, size_t n, sgc_error *err)
{
    char *text = guard->text;

    for (size_t i = 0; i < n; i++) {
        rule *rule = &guard->rules[guard->n];
        if (!read_entry(entries[i], rule))
            return sgc__fail_argument(
                err,
                "expected *, an address, a network or a host name, each with or without :port or :low-high",
                entries[i]);
        text = keep_name(rule, text);
        guard->n++;
        if (is_unspecified(rule))
            add_loopback(guard->rules, &guard->n, rule);
    }
    return SGC_OK;
}

sgc_status sgc_guard_new(const sgc_str *entries, size_t n, sgc_guard **guard, sgc_error *err)
{
    sgc_guard *made = sgc__alloc(1, sizeof *made);
    sgc_status status = SGC_NOMEM;
    size_t length = 0;

    *guard = NULL;
    for (size_t i = 0; i < n; i++)
        length += entries[i].len;
    if (made && n <= SIZE_MAX / 2) {
        atomic_init(&made->refs, 1);
        made->rules = sgc__alloc(2 * n, sizeof *made->rules);
        made->text = sgc__alloc(length, 1);
        if (made->rules && made->text)
            status = read_entries(made, entries, n, err);
    }
    if (status == SGC_NOMEM)
        sgc__fail_memory(err);
    if (status != SGC_OK) {
        sgc_guard_free(made);
        return status;
    }
    *guard = made;
    return SGC_OK;
}

sgc_guard *sgc_guard_retain(sgc_guard *guard)
{
    atomic_fetch_add_explicit(&guard->refs, 1, memory_order_relaxed);
    return guard;
}

void sgc_guard_free(sgc_guard *guard)
{
    if (!guard || atomic_fetch_sub_explicit(&guard->refs, 1, memory_order_acq_rel) > 1)
        return;
    sgc__release(guard->rules);
    sgc__release(guard->text);
    sgc__release(guard);
}

/* ---------------------------------------------------------------- judging */

static bool port_in(const rule *rule, uint16_t port)
{
    return port >= rule->low && port <= rule->high;
}

/* What the address rules say. An address that needs an exact entry is matched
 * by nothing wider. */
static sgc_reason match_address(const sgc_guard *guard, const address *addr, uint16_t port, bool exact)
{
    sgc_reason reason = SGC_REASON_ADDRESS_NOT_ALLOWED;

    for (size_t i = 0; i < guard->n; i++) {
        const rule *rule = &guard->rules[i];
        bool hit = false;
        if (rule->kind == RULE_ANY)
            hit = !exact;
        else if (rule->kind == RULE_NET && rule->net.v6 == addr->v6 &&
                 (!exact || rule->bits == (addr->v6 ? 128u : 32u)))
            hit = prefix_equal(addr->bytes, rule->net.bytes, rule->bits);
        if (hit && port_in(rule, port))
            return SGC_REASON_NONE;
        if (hit)
            reason = SGC_REASON_PORT_NOT_ALLOWED;
    }
    return reason;
}

static sgc_reason judge_address(const sgc_guard *guard, const address *addr, uint16_t port)
{
    address inner;
    bool carries = unwrap(addr, &inner);
    sgc_reason reason = match_address(guard, addr, port, carries || IN_RANGES(addr, always_denied));

    if (reason == SGC_REASON_NONE || !carries)
        return reason;
    return match_address(guard, &inner, port, IN_RANGES(&inner, always_denied));
}

/* Without brackets, zone and final dot. */
static sgc_str bare_host(sgc_str host)
{
    if (host.len >= 2 && host.ptr[0] == '[' && host.ptr[host.len - 1] == ']') {
        host = (sgc_str){host.ptr + 1, host.len - 2};
        host.len = find(host, '%');
    } else if (host.len > 1 && host.ptr[host.len - 1] == '.') {
        host.len--;
    }
    return host;
}

/* Does a resolver read this host as an address? inet_aton takes the same odd
 * spellings (127.1, 0x7f000001, 017700000001) that getaddrinfo does. */
static bool host_address(sgc_str host, address *addr)
{
    char copy[NUMERIC_MAX + 1];
    struct in_addr v4;

    if (read_address(host, addr))
        return true;
    if (host.len == 0 || host.len > NUMERIC_MAX || memchr(host.ptr, 0, host.len))
        return false;
    memcpy(copy, host.ptr, host.len);
    copy[host.len] = '\0';
    memset(addr, 0, sizeof *addr);
    if (inet_aton(copy, &v4) == 0)
        return false;
    memcpy(addr->bytes, &v4, 4);
    return true;
}

/* Dots align one to one, since a star stands for none: going back to the last
 * star is enough. */
static bool name_matches(sgc_str pattern, sgc_str host)
{
    size_t p = 0, h = 0, star = SIZE_MAX, from_host = 0;

    while (h < host.len) {
        if (p < pattern.len && pattern.ptr[p] == '*') {
            star = p++;
            from_host = h;
        } else if (p < pattern.len && pattern.ptr[p] == lower(host.ptr[h])) {
            p++;
            h++;
        } else if (star != SIZE_MAX && host.ptr[from_host] != '.') {
            p = star + 1;
            h = ++from_host;
        } else {
            return false;
        }
    }
    while (p < pattern.len && pattern.ptr[p] == '*')
        p++;
    return p == pattern.len;
}

sgc_reason sgc_guard_check_host(const sgc_guard *guard, sgc_str host, uint16_t port)
{
    sgc_reason reason = SGC_REASON_HOST_NOT_ALLOWED;
    address addr;

    host = bare_host(host);
    if (host_address(host, &addr))
        return judge_address(guard, &addr, port);
    for (size_t i = 0; i < guard->n && host.len; i++) {
        const rule *rule = &guard->rules[i];
        if (rule->kind != RULE_ANY && !(rule->kind == RULE_NAME && name_matches(rule->name, host)))
            continue;
        if (port_in(rule, port))
            return SGC_REASON_NONE;
        reason = SGC_REASON_PORT_NOT_ALLOWED;
    }
    return reason;
}

/* Does a rule for this name let it lead to `addr`? To public addresses; to the
 * loopback only for the name that means it. */
static bool name_admits(const sgc_guard *guard, sgc_str host, const address *addr, uint16_t port)
{
    bool local = IN_RANGES(addr, loopback);

    if (IN_RANGES(addr, always_denied) || IN_RANGES(addr, private_ranges))
        return false;
    for (size_t i = 0; i < guard->n; i++) {
        const rule *rule = &guard->rules[i];
        if (rule->kind == RULE_NAME && port_in(rule, port) && name_matches(rule->name, host) &&
            (!local || sgc__eq(rule->name, SGC__STR("localhost"))))
            return true;
    }
    return false;
}

static bool socket_address(const struct sockaddr *from, address *addr, uint16_t *port)
{
    memset(addr, 0, sizeof *addr);
    if (from->sa_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, from, sizeof v4);
        memcpy(addr->bytes, &v4.sin_addr, 4);
        *port = ntohs(v4.sin_port);
        return true;
    }
    if (from->sa_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, from, sizeof v6);
        memcpy(addr->bytes, &v6.sin6_addr, 16);
        addr->v6 = true;
        *port = ntohs(v6.sin6_port);
        return true;
    }
    return false;
}

bool sgc_guard_allows_address(const sgc_guard *guard, sgc_str host, const struct sockaddr *from)
{
    address addr, inner, numeric;
    uint16_t port;

    if (!socket_address(from, &addr, &port) || sgc_guard_check_host(guard, host, port) != SGC_REASON_NONE)
        return false;
    if (judge_address(guard, &addr, port) == SGC_REASON_NONE)
        return true;
    host = bare_host(host);
    if (host_address(host, &numeric))
        return false;
    return name_admits(guard, host, unwrap(&addr, &inner) ? &inner : &addr, port);
}
