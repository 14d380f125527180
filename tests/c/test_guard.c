/*
 * test_guard.c - which hosts and addresses a guard lets through: the edges of
 * every range, every embedding of IPv4 in IPv6, ports and name patterns.
 */
#include "alloc.h"
#include "check.h"
#include "sgc_scrape.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

enum { MAX_ENTRIES = 8 };

static sgc_str str(const char *text)
{
    return (sgc_str){text, strlen(text)};
}

/* A guard of entries separated by blanks. */
static sgc_guard *guard_of(const char *entries)
{
    sgc_str list[MAX_ENTRIES];
    size_t n = 0;
    sgc_guard *guard;
    sgc_error err;

    while (*entries) {
        size_t len = strcspn(entries, " ");
        list[n++] = (sgc_str){entries, len};
        entries += len + (entries[len] == ' ');
    }
    CHECK_MSG(sgc_guard_new(list, n, &guard, &err) == SGC_OK, "%s %s", err.reason, err.excerpt);
    return guard;
}

static bool allows(const sgc_guard *guard, const char *host, const char *addr, uint16_t port)
{
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};

    if (inet_pton(AF_INET, addr, &v4.sin_addr) == 1)
        return sgc_guard_allows_address(guard, str(host), (struct sockaddr *)&v4);
    CHECK_MSG(inet_pton(AF_INET6, addr, &v6.sin6_addr) == 1, "%s", addr);
    return sgc_guard_allows_address(guard, str(host), (struct sockaddr *)&v6);
}

/* The address asked for by itself, as a URL with a numeric host does. */
static bool allows_numeric(const char *entries, const char *addr, uint16_t port)
{
    sgc_guard *guard = guard_of(entries);
    bool yes = allows(guard, addr, addr, port);

    CHECK_MSG(yes == (sgc_guard_check_host(guard, str(addr), port) == SGC_REASON_NONE), "%s: %s", entries,
              addr);
    sgc_guard_free(guard);
    return yes;
}

static void an_empty_list_refuses_every_target(void)
{
    static const char *const addrs[] = {"127.0.0.1", "10.1.2.3", "8.8.8.8", "::1", "fd00::1", "2606:4700::1"};

    for (size_t i = 0; i < sizeof addrs / sizeof *addrs; i++)
        CHECK_MSG(!allows_numeric("", addrs[i], 30000), "%s", addrs[i]);
    sgc_guard *guard = guard_of("");
    CHECK(sgc_guard_check_host(guard, str("gpu1"), 30000) == SGC_REASON_HOST_NOT_ALLOWED);
    sgc_guard_free(guard);
}

/* Each range that is always denied: its first and last address, the ones just
 * outside, and whether an exact entry lifts the denial. */
static void some_ranges_are_denied_whatever_the_list_says(void)
{
    static const struct {
        const char *before, *first, *last, *after;
    } rows[] = {
        {NULL, "0.0.0.0", "0.255.255.255", "1.0.0.0"},
        {"169.253.255.255", "169.254.0.0", "169.254.255.255", "169.255.0.0"},
        {"223.255.255.255", "224.0.0.0", "239.255.255.255", NULL},
        {NULL, "240.0.0.0", "255.255.255.255", NULL},
        {"100.100.100.199", "100.100.100.200", "100.100.100.200", "100.100.100.201"},
        {"168.63.129.15", "168.63.129.16", "168.63.129.16", "168.63.129.17"},
        {NULL, "::", "::", "::1"},
        {"fe7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
         NULL},
        {NULL, "fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", NULL},
        {NULL, "ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", NULL},
        {"fd00:ec2::253", "fd00:ec2::254", "fd00:ec2::254", "fd00:ec2::255"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *wide = strchr(rows[i].first, ':') ? "* [::/0]:1-65535" : "* 0.0.0.0/0:1-65535";
        CHECK_MSG(!allows_numeric(wide, rows[i].first, 30000), "%s", rows[i].first);
        CHECK_MSG(!allows_numeric(wide, rows[i].last, 30000), "%s", rows[i].last);
        CHECK_MSG(!rows[i].before || allows_numeric(wide, rows[i].before, 30000), "%s", rows[i].before);
        CHECK_MSG(!rows[i].after || allows_numeric(wide, rows[i].after, 30000), "%s", rows[i].after);
        CHECK_MSG(allows_numeric(rows[i].first, rows[i].first, 30000), "%s", rows[i].first);
        CHECK_MSG(allows_numeric(rows[i].last, rows[i].last, 30000), "%s", rows[i].last);
    }
    CHECK(!allows_numeric("169.254.169.254/31", "169.254.169.254", 30000));
    CHECK(allows_numeric("169.254.169.254/32:80", "169.254.169.254", 80));
    CHECK(!allows_numeric("169.254.169.254/32:80", "169.254.169.253", 80));
    CHECK(!allows_numeric("[fd00:ec2::254/127]", "fd00:ec2::254", 30000));
}

static void every_address_of_a_site_s_own_nat64_is_denied(void)
{
    static const char *const inside[] = {"64:ff9b:1::a00:1", "64:ff9b:1:8000::a00:1", "64:ff9b:1:ffff::"};

    for (size_t i = 0; i < sizeof inside / sizeof *inside; i++)
        CHECK_MSG(!allows_numeric("*", inside[i], 30000), "%s", inside[i]);
    CHECK(allows_numeric("*", "64:ff9b:2::a00:1", 30000));
}

static void a_network_ends_where_its_prefix_says(void)
{
    static const struct {
        const char *entry, *addr;
        bool yes;
    } rows[] = {
        {"10.1.0.0/16", "10.1.0.0", true},
        {"10.1.0.0/16", "10.1.255.255", true},
        {"10.1.0.0/16", "10.0.255.255", false},
        {"10.1.0.0/16", "10.2.0.0", false},
        {"0.0.0.0/0", "8.8.8.8", true},
        {"0.0.0.0/0", "10.0.0.1", true},
        {"0.0.0.0/0", "::1", false},
        {"128.0.0.0/1", "127.255.255.255", false},
        {"128.0.0.0/1", "128.0.0.0", true},
        {"10.1.2.4/31", "10.1.2.5", true},
        {"10.1.2.4/31", "10.1.2.6", false},
        {"10.1.2.4/31", "10.1.2.3", false},
        {"10.1.2.4/32", "10.1.2.4", true},
        {"10.1.2.4/32", "10.1.2.5", false},
        {"10.1.2.4", "10.1.2.4", true},
        {"10.1.2.4", "10.1.2.5", false},
        {"10.1.2.3/16", "10.1.9.9", true},
        {"[fd00::/8]", "fdff::1", true},
        {"[fd00::/8]", "fc00::1", false},
        {"fd00::/8", "fd12::1", true},
        {"[::/0]", "2606:4700::1", true},
        {"[::/0]", "10.1.2.3", false},
        {"[fd00::4/127]", "fd00::5", true},
        {"[fd00::4/127]", "fd00::6", false},
        {"[fd00::4/128]", "fd00::4", true},
        {"[fd00::4]", "fd00::5", false},
        {"fd00::4", "fd00::4", true},
        {"172.16.0.0/12", "172.31.255.255", true},
        {"172.16.0.0/12", "172.32.0.0", false},
        {"127.0.0.0/8", "127.255.255.254", true},
        {"*", "127.0.0.1", true},
        {"*", "::1", true},
        {"*", "192.168.1.1", true},
        {"*", "100.64.0.1", true},
        {"*", "8.8.8.8", true},
        {"127.0.0.0/8", "::1", false},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        CHECK_MSG(allows_numeric(rows[i].entry, rows[i].addr, 30000) == rows[i].yes, "%s: %s", rows[i].entry,
                  rows[i].addr);
}

static void ipv4_inside_ipv6_is_judged_as_ipv4(void)
{
    static const struct {
        const char *entry, *addr;
        bool yes;
    } rows[] = {
        {"10.1.0.0/16", "::ffff:10.1.2.3", true},
        {"10.1.0.0/16", "::ffff:10.2.0.0", false},
        {"10.1.0.0/16", "::10.1.2.3", true},
        {"10.1.0.0/16", "64:ff9b::10.1.2.3", true},
        {"10.1.0.0/16", "2002:a01:203::", true},
        {"10.1.0.0/16", "2002:a02:203::", false},
        {"10.1.0.0/16", "2001:0:1:2:3:4:f5fe:fdfc", true}, /* Teredo inverts */
        {"10.1.0.0/16", "2001:0:1:2:3:4:a01:203", false},
        {"10.1.0.0/16", "64:ff9b:1::10.1.2.3", false}, /* could lie elsewhere */
        {"*", "64:ff9b:1::8.8.8.8", false},
        {"[64:ff9b:1::808:808]", "64:ff9b:1::8.8.8.8", true},
        {"[::/0]", "::ffff:8.8.8.8", false},
        {"[::/0]", "2002:808:808::", false},
        {"[::ffff:8.8.8.8]", "::ffff:8.8.8.8", true},
        {"*", "::ffff:127.0.0.1", true},
        {"10.0.0.0/8", "::ffff:127.0.0.1", false},
        {"* [::/0]", "::ffff:169.254.169.254", false},
        {"* [::/0]", "::ffff:a9fe:a9fe", false},
        {"* [::/0]", "::169.254.169.254", false},
        {"* [::/0]", "64:ff9b::a9fe:a9fe", false},
        {"* [::/0]", "2002:a9fe:a9fe::", false},
        {"* [::/0]", "2001::5601:5601", false},
        {"* [::/0]", "::ffff:0.0.0.0", false},
        {"* [::/0]", "::ffff:100.100.100.200", false},
        {"* [::/0]", "::ffff:168.63.129.16", false},
        {"169.254.169.254/32", "::ffff:169.254.169.254", true},
        {"*", "2001:1::1", true}, /* beside Teredo */
        {"*", "2003::1", true},   /* beside 6to4 */
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        CHECK_MSG(allows_numeric(rows[i].entry, rows[i].addr, 30000) == rows[i].yes, "%s: %s", rows[i].entry,
                  rows[i].addr);
}

static void the_unspecified_address_stands_for_the_loopback(void)
{
    CHECK(!allows_numeric("127.0.0.0/8", "0.0.0.0", 30000));
    CHECK(allows_numeric("0.0.0.0", "127.0.0.1", 30000));
    CHECK(!allows_numeric("0.0.0.0", "127.0.0.2", 30000));
    CHECK(allows_numeric("::", "::1", 30000));
    CHECK(!allows_numeric("0.0.0.0/0", "0.0.0.0", 30000));
}

static void ports_are_those_of_the_entry_or_30000_to_30099(void)
{
    static const struct {
        const char *entry;
        uint16_t port;
        bool yes;
    } rows[] = {
        {"10.1.2.3", 30000, true},
        {"10.1.2.3", 30099, true},
        {"10.1.2.3", 29999, false},
        {"10.1.2.3", 30100, false},
        {"10.1.2.3:8000", 8000, true},
        {"10.1.2.3:8000", 8001, false},
        {"10.1.2.3:8000", 30000, false},
        {"10.1.2.3:8000-8002", 8000, true},
        {"10.1.2.3:8000-8002", 8002, true},
        {"10.1.2.3:8000-8002", 7999, false},
        {"10.1.2.3:8000-8002", 8003, false},
        {"10.0.0.0/8:1-65535", 1, true},
        {"10.0.0.0/8:1-65535", 65535, true},
        {"10.0.0.0/8:1-65535", 0, false},
        {"*", 30000, true},
        {"*", 80, false},
        {"*:1-65535", 80, true},
        {"http://10.1.2.3:8000/metrics", 8000, true},
        {"http://10.1.2.3:8000/metrics", 30000, false},
        {"http://10.1.2.3/metrics", 80, true},
        {"HTTPS://10.1.2.3", 443, true},
        {"https://10.1.2.3?x", 30000, false},
        {"10.1.0.0/16:8000 10.1.2.0/24:9000", 8000, true},
        {"10.1.0.0/16:8000 10.1.2.0/24:9000", 9000, true},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        sgc_guard *guard = guard_of(rows[i].entry);
        sgc_reason reason = rows[i].yes ? SGC_REASON_NONE : SGC_REASON_PORT_NOT_ALLOWED;
        CHECK_MSG(sgc_guard_check_host(guard, str("10.1.2.3"), rows[i].port) == reason, "%s: %u",
                  rows[i].entry, rows[i].port);
        CHECK(allows(guard, "10.1.2.3", "10.1.2.3", rows[i].port) == rows[i].yes);
        sgc_guard_free(guard);
    }
}

static void a_host_is_looked_up_only_where_its_name_is_listed(void)
{
    static const struct {
        const char *entry, *host;
        uint16_t port;
        sgc_reason reason;
    } rows[] = {
        {"gpu1", "gpu1", 30000, SGC_REASON_NONE},
        {"gpu1", "GPU1", 30000, SGC_REASON_NONE},
        {"GPU1", "gpu1.", 30000, SGC_REASON_NONE},
        {"gpu1", "gpu2", 30000, SGC_REASON_HOST_NOT_ALLOWED},
        {"gpu1", "gpu1.evil.example", 30000, SGC_REASON_HOST_NOT_ALLOWED},
        {"gpu1", "xgpu1", 30000, SGC_REASON_HOST_NOT_ALLOWED},
        {"gpu1", "", 30000, SGC_REASON_HOST_NOT_ALLOWED},
        {"gpu1", "gpu1", 22, SGC_REASON_PORT_NOT_ALLOWED},
        {"sglang-*.svc:30000", "sglang-0.svc", 30000, SGC_REASON_NONE},
        {"sglang-*.svc:30000", "sglang-.svc", 30000, SGC_REASON_NONE},
        {"sglang-*.svc:30000", "sglang-0.svc", 30001, SGC_REASON_PORT_NOT_ALLOWED},
        {"sglang-*.svc:30000", "sglang-0.evil.svc", 30000, SGC_REASON_HOST_NOT_ALLOWED},
        {"sglang-*.svc:30000", "sglang-0.svc.evil", 30000, SGC_REASON_HOST_NOT_ALLOWED},
        {"sglang-*.svc:30000", "xsglang-0.svc", 30000, SGC_REASON_HOST_NOT_ALLOWED},
        {"*.svc", "a.svc", 30000, SGC_REASON_NONE},
        {"*.svc", "a.b.svc", 30000, SGC_REASON_HOST_NOT_ALLOWED},
        {"*.*.svc", "a.b.svc", 30000, SGC_REASON_NONE},
        {"a*b*c.x", "aXbYbZc.x", 30000, SGC_REASON_NONE},
        {"a*b*c.x", "aXbYbZ.x", 30000, SGC_REASON_HOST_NOT_ALLOWED},
        {"gpu*", "gpu", 30000, SGC_REASON_NONE},
        {"gpu_*", "gpu_7", 30000, SGC_REASON_NONE},
        {"http://gpu1:30000/metrics", "gpu1", 30000, SGC_REASON_NONE},
        {"http://gpu1:30000/metrics", "gpu1", 30001, SGC_REASON_PORT_NOT_ALLOWED},
        {"*", "anything.example", 30000, SGC_REASON_NONE},
        {"*", "anything.example", 22, SGC_REASON_PORT_NOT_ALLOWED},
        {"10.0.0.0/8", "gpu1", 30000, SGC_REASON_HOST_NOT_ALLOWED},
        {"10.0.0.0/8", "127.1", 30000, SGC_REASON_ADDRESS_NOT_ALLOWED},
        {"10.0.0.0/8", "2130706433", 30000, SGC_REASON_ADDRESS_NOT_ALLOWED},
        {"10.0.0.0/8", "0x7f000001", 30000, SGC_REASON_ADDRESS_NOT_ALLOWED},
        {"10.0.0.0/8", "017700000001", 30000, SGC_REASON_ADDRESS_NOT_ALLOWED},
        {"10.0.0.0/8", "0", 30000, SGC_REASON_ADDRESS_NOT_ALLOWED},
        {"10.0.0.0/8", "[::1]", 30000, SGC_REASON_ADDRESS_NOT_ALLOWED},
        {"* gpu1", "0xa9fea9fe", 30000, SGC_REASON_ADDRESS_NOT_ALLOWED},
        {"[fd00::/8]", "[fd00::1]", 30000, SGC_REASON_NONE},
        {"[fd00::/8]", "[fd00::1%25eth0]", 30000, SGC_REASON_NONE},
        {"[fd00::5]", "[fd00::5]", 30000, SGC_REASON_NONE},
        {"[fd00::5]", "[fd00::]", 30000, SGC_REASON_ADDRESS_NOT_ALLOWED},
        {"gpu1 10.0.0.0/8", "10.2.3.4", 30000, SGC_REASON_NONE},
        {"gpu1 rack-*.x GPUZ", "gpu1", 30000, SGC_REASON_NONE},
        {"gpu1 rack-*.x GPUZ", "RACK-Z.x", 30000, SGC_REASON_NONE},
        {"gpu1 rack-*.x GPUZ", "gpuz", 30000, SGC_REASON_NONE},
        {"gpu1 rack-*.x GPUZ", "gpu2", 30000, SGC_REASON_HOST_NOT_ALLOWED},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        sgc_guard *guard = guard_of(rows[i].entry);
        CHECK_MSG(sgc_guard_check_host(guard, str(rows[i].host), rows[i].port) == rows[i].reason, "%s: %s:%u",
                  rows[i].entry, rows[i].host, rows[i].port);
        sgc_guard_free(guard);
    }
}

static void a_listed_name_may_lead_only_to_public_or_listed_addresses(void)
{
    static const struct {
        const char *entries, *host, *addr;
        bool yes;
    } rows[] = {
        {"gpu1", "gpu1", "8.8.8.8", true},
        {"gpu1", "gpu1", "2606:4700::1", true},
        {"gpu1", "gpu1", "::ffff:8.8.8.8", true},
        {"gpu1", "gpu1", "10.0.0.0", false},
        {"gpu1", "gpu1", "9.255.255.255", true},
        {"gpu1", "gpu1", "10.255.255.255", false},
        {"gpu1", "gpu1", "11.0.0.0", true},
        {"gpu1", "gpu1", "172.15.255.255", true},
        {"gpu1", "gpu1", "172.16.0.0", false},
        {"gpu1", "gpu1", "172.31.255.255", false},
        {"gpu1", "gpu1", "172.32.0.0", true},
        {"gpu1", "gpu1", "192.167.255.255", true},
        {"gpu1", "gpu1", "192.168.0.0", false},
        {"gpu1", "gpu1", "192.168.255.255", false},
        {"gpu1", "gpu1", "192.169.0.0", true},
        {"gpu1", "gpu1", "100.63.255.255", true},
        {"gpu1", "gpu1", "100.64.0.0", false},
        {"gpu1", "gpu1", "100.127.255.255", false},
        {"gpu1", "gpu1", "100.128.0.0", true},
        {"gpu1", "gpu1", "fc00::1", false},
        {"gpu1", "gpu1", "fdff::1", false},
        {"gpu1", "gpu1", "126.255.255.255", true},
        {"gpu1", "gpu1", "127.0.0.1", false},
        {"gpu1", "gpu1", "127.255.255.255", false},
        {"gpu1", "gpu1", "128.0.0.0", true},
        {"gpu1", "gpu1", "::1", false},
        {"gpu1", "gpu1", "::ffff:10.0.0.1", false},
        {"gpu1", "gpu1", "64:ff9b::127.0.0.1", false},
        {"gpu1", "gpu1", "169.254.169.254", false},
        {"gpu1", "gpu1", "0.0.0.0", false},
        {"gpu1 10.0.0.0/8", "gpu1", "10.0.0.1", true},
        {"gpu1 10.0.0.0/8", "gpu1", "192.168.0.1", false},
        {"gpu1 10.0.0.0/8", "gpu1", "169.254.169.254", false},
        {"gpu1 169.254.169.254", "gpu1", "169.254.169.254", true},
        {"gpu1 10.0.0.0/8", "gpu2", "10.0.0.1", false},
        {"gpu1 10.0.0.0/8:9000", "gpu1", "10.0.0.1", false},
        {"gpu1 127.0.0.0/8", "gpu1", "127.0.0.1", true},
        {"localhost", "localhost", "127.0.0.1", true},
        {"localhost", "LOCALHOST", "::1", true},
        {"localhost", "localhost", "::ffff:127.0.0.1", true},
        {"localhost", "localhost", "10.0.0.1", false},
        {"localhos*", "localhost", "127.0.0.1", false},
        {"x.localhost", "x.localhost", "127.0.0.1", false},
        {"*", "gpu1", "10.0.0.1", true},
        {"*", "localhost", "127.0.0.1", true},
        {"*", "gpu1", "169.254.169.254", false},
        {"10.0.0.0/8", "10.0.0.1", "127.0.0.1", false},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        sgc_guard *guard = guard_of(rows[i].entries);
        CHECK_MSG(allows(guard, rows[i].host, rows[i].addr, 30000) == rows[i].yes, "%s: %s at %s",
                  rows[i].entries, rows[i].host, rows[i].addr);
        sgc_guard_free(guard);
    }
}

static void other_address_families_are_refused(void)
{
    sgc_guard *guard = guard_of("*");
    struct sockaddr local = {.sa_family = AF_UNIX};

    CHECK(!sgc_guard_allows_address(guard, str("gpu1"), &local));
    sgc_guard_free(guard);
}

static void an_entry_that_cannot_be_read_is_named(void)
{
    static const char *const bad[] = {
        "",
        ":",
        ":80",
        "10.1.2.3:",
        "10.1.2.3:0",
        "10.1.2.3:65536",
        "10.1.2.3:1-65536",
        "gpu1:65536-65536",
        "10.1.2.3:90-80",
        "10.1.2.3:80-",
        "10.1.2.3:x",
        "10.1.2.3:+80",
        "10.1.2.3:080808",
        "10.1.2.3/33",
        "10.1.2.3/",
        "10.1.2.3/-1",
        "10.1.2",
        "10.1.2.256",
        "1",
        "010.1.2.3",
        "10.1.2.*",
        "*.*",
        "[::1",
        "[::1]x",
        "[10.1.2.3]",
        "[::1/129]",
        "[gpu1]",
        "::g",
        "fd00::/8:30000-",
        "a..b",
        ".a",
        "a.",
        "a b",
        "gpu1/metrics",
        "ftp://gpu1",
        "http://",
        "http://user@gpu1",
        "g\xc3\xbc",
        "gpu1:30000:1",
        "http://[::1",
    };

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        sgc_str entries[] = {str("10.0.0.0/8"), str(bad[i])};
        sgc_guard *guard = (sgc_guard *)&entries;
        sgc_error err;
        CHECK_MSG(sgc_guard_new(entries, 2, &guard, &err) == SGC_ARGUMENT, "%s", bad[i]);
        CHECK(!guard && err.code == SGC_ARGUMENT && err.reason);
        CHECK(err.excerpt[0] || !bad[i][0]);
        sgc_guard_free(guard);
    }
    sgc_str with_nul[] = {{"gpu1\0", 5}, {"10.0.0.1\0", 9}, {"10.0.0.1\0x", 10}};
    for (size_t i = 0; i < 3; i++) {
        sgc_guard *guard;
        CHECK(sgc_guard_new(&with_nul[i], 1, &guard, NULL) == SGC_ARGUMENT && !guard);
    }
}

static void a_name_is_as_long_as_a_name_may_be(void)
{
    char name[256];

    memset(name, 'a', sizeof name);
    for (size_t i = 60; i < sizeof name; i += 60)
        name[i] = '.';
    for (size_t len = 253; len <= 254; len++) {
        sgc_str entry = {name, len};
        sgc_guard *guard;
        CHECK((sgc_guard_new(&entry, 1, &guard, NULL) == SGC_OK) == (len == 253));
        CHECK(!guard || sgc_guard_check_host(guard, entry, 30000) == SGC_REASON_NONE);
        sgc_guard_free(guard);
    }
}

static void a_guard_is_counted(void)
{
    sgc_guard *guard = guard_of("10.0.0.0/8");

    CHECK(sgc_guard_retain(guard) == guard);
    sgc_guard_free(guard);
    CHECK(allows(guard, "10.0.0.1", "10.0.0.1", 30000));
    sgc_guard_free(guard);
    sgc_guard_free(NULL);
}

static bool guard_made(void)
{
    sgc_str entries[] = {str("10.0.0.0/8"), str("gpu1"), str("0.0.0.0")};
    sgc_guard *guard;
    sgc_error err;
    sgc_status status = sgc_guard_new(entries, 3, &guard, &err);

    CHECK((status == SGC_OK) == (guard != NULL));
    CHECK(status == SGC_OK || (status == SGC_NOMEM && err.code == SGC_NOMEM));
    sgc_guard_free(guard);
    return status == SGC_OK;
}

static void every_allocation_failure_is_survived(void)
{
    alloc_install();
    CHECK(alloc_sweep("a guard", guard_made) > 6);
    sgc_allocator_set(NULL);
}

int main(void)
{
    an_empty_list_refuses_every_target();
    some_ranges_are_denied_whatever_the_list_says();
    every_address_of_a_site_s_own_nat64_is_denied();
    a_network_ends_where_its_prefix_says();
    ipv4_inside_ipv6_is_judged_as_ipv4();
    the_unspecified_address_stands_for_the_loopback();
    ports_are_those_of_the_entry_or_30000_to_30099();
    a_host_is_looked_up_only_where_its_name_is_listed();
    a_listed_name_may_lead_only_to_public_or_listed_addresses();
    other_address_families_are_refused();
    an_entry_that_cannot_be_read_is_named();
    a_name_is_as_long_as_a_name_may_be();
    a_guard_is_counted();
    every_allocation_failure_is_survived();
    return check_done("test_guard");
}
