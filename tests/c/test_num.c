/* Numbers: correctly rounded, no locale, nothing but the grammar's decimals. */
#include "check.h"
#include "dice.h"
#include "sgc_int.h"

static double read_number(const char *text)
{
    double value = -12345;

    CHECK_MSG(sgc__number_read((sgc_str){text, strlen(text)}, &value), "%s", text);
    return value;
}

static bool same(double a, double b)
{
    return memcmp(&a, &b, sizeof a) == 0;
}

/* The compiler rounds its literals correctly: each number is its own oracle. */
#define N(number) {#number, number}

static void test_every_road_rounds_correctly(void)
{
    static const struct {
        const char *text;
        double value;
    } cases[] = {
        N(0),
        N(-0.0),
        N(1),
        N(13.0),
        N(0.1),
        N(123456789),
        N(1.4986231e+07),
        N(8.128902e+06),
        N(11.532891000000001),
        N(0.07500000000000001),
        N(9007199254740993),
        N(9007199254740993.0000000000000000000001),
        N(1e22),
        N(1e23),
        N(123456789012345678901234567890.0),
        N(1.7976931348623157e308),
        N(1.7976931348623158e308),
        N(2.2250738585072011e-308),
        N(2.2250738585072014e-308),
        N(4.9e-324),
        N(2.4703282292062328e-324),
        N(5e-324),
        N(1e-323),
        N(6631236846766476e-316),
        N(3.2378839133029012895e-319),
        N(0.500000000000000166533453693773481063544750213623046875),
        N(3.518437208883201171875e13),
        N(1.00000000000000011102230246251565404236316680908203125),
        N(1.00000000000000011102230246251565404236316680908203124),
        N(1.00000000000000011102230246251565404236316680908203126),
        N(7.3177701707893310e+15),
        N(9214843084008499.0),
        N(1448997445238699.0),
        N(104110013277974872254e-225),
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        CHECK_MSG(same(read_number(cases[i].text), cases[i].value), "%s", cases[i].text);
}

static void test_what_a_double_cannot_hold_becomes_infinity_or_zero(void)
{
    CHECK(read_number("1e400") == INFINITY && read_number("-1e400") == -INFINITY);
    CHECK(read_number("1.7976931348623159e308") == INFINITY);
    CHECK(read_number("1e99999999999") == INFINITY && read_number("1e-99999999999") == 0);
    CHECK(same(read_number("-1e-400"), -0.0) && read_number("2.4703282292062327e-324") == 0);
    CHECK(same(read_number("-1.1e-324"), -0.0) && read_number("1e-324") == 0);
}

static void test_length_does_not_matter(void)
{
    static char text[200000];

    memset(text, '0', sizeof text);
    memcpy(text, "0.", 2);
    memcpy(text + 100000, "1e100000", 9);
    CHECK(read_number(text) == 10.0);
    memset(text, '9', 400), text[400] = '\0';
    CHECK(read_number(text) == INFINITY);
    memset(text, '0', 1000), text[0] = '1', strcpy(text + 1000, "e-999");
    CHECK(read_number(text) == 1.0);
    /* Halfway, told apart only by the last of 900 digits. */
    strcpy(text, "9007199254740993."), memset(text + 17, '0', 900), text[917] = '1', text[918] = '\0';
    CHECK(read_number(text) == 9007199254740994.0);
}

static void test_words_have_any_case_and_sign(void)
{
    static const char *const infinities[] = {"Inf", "+Inf", "+inf", "INFINITY", "+infinity"};

    for (size_t i = 0; i < sizeof infinities / sizeof *infinities; i++)
        CHECK(read_number(infinities[i]) == INFINITY);
    CHECK(read_number("-Inf") == -INFINITY);
    CHECK(isnan(read_number("NaN")) && isnan(read_number("+nan")) && isnan(read_number("-NAN")));
}

static void test_everything_else_is_refused(void)
{
    static const char *const texts[] = {
        "",      ".",  "+",  "-",  "e5",   "1e",      "1e+", "0x10",  "1_0",          "--1", "+-1",
        "1.2.3", " 1", "1 ", "1f", "nanx", "infinit", "in",  "1e5.0", "\xef\xbc\x91", "1,5", "++inf"};
    double value;

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        CHECK_MSG(!sgc__number_read((sgc_str){texts[i], strlen(texts[i])}, &value), "%s", texts[i]);
}

static void test_integers_do_not_wrap(void)
{
    static const char *const refused[] = {"",    "-",   "9223372036854775808",  "-9223372036854775809",
                                          "1.0", "1e3", "18446744073709551616", "99999999999999999999999",
                                          "0x1", "1 "};
    int64_t value;

    CHECK(sgc__integer_read(SGC__STR("9223372036854775807"), &value) && value == INT64_MAX);
    CHECK(sgc__integer_read(SGC__STR("-9223372036854775808"), &value) && value == INT64_MIN);
    CHECK(sgc__integer_read(SGC__STR("+1395066363000"), &value) && value == 1395066363000);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        CHECK_MSG(!sgc__integer_read((sgc_str){refused[i], strlen(refused[i])}, &value), "%s", refused[i]);
}

/* Doubles, printed with the digits that tell each apart, come back bit for bit. */
static void test_printed_doubles_come_back(void)
{
    uint64_t bits;
    unsigned wrong = 0;
    char text[64];
    double value, back;

    for (int i = 0; i < 300000; i++) {
        bits = dice_bits();
        memcpy(&value, &bits, sizeof value);
        if (!isfinite(value))
            continue;
        snprintf(text, sizeof text, i & 1 ? "%.17g" : "%.25e", value);
        wrong += !sgc__number_read((sgc_str){text, strlen(text)}, &back) || !same(value, back);
    }
    CHECK_MSG(wrong == 0, "%u wrong", wrong);
}

int main(void)
{
    test_every_road_rounds_correctly();
    test_what_a_double_cannot_hold_becomes_infinity_or_zero();
    test_length_does_not_matter();
    test_words_have_any_case_and_sign();
    test_everything_else_is_refused();
    test_integers_do_not_wrap();
    test_printed_doubles_come_back();
    return check_done("test_num");
}
