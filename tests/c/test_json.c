/* JSON of numbers and text. */
#include <inttypes.h>
#include <math.h>

#include "check.h"
#include "dice.h"
#include "sgc_int.h"

static bool gives(double value, const char *text)
{
    char out[SGC_JSON_NUMBER];
    size_t len = sgc_json_number(value, out);

    return len == strlen(text) && memcmp(out, text, len) == 0;
}

static void numbers_are_laid_out_for_people(void)
{
    CHECK(gives(0, "0.0") && gives(-0.0, "-0.0") && gives(1, "1.0") && gives(-1.5, "-1.5"));
    CHECK(gives(0.1, "0.1") && gives(123456.789, "123456.789") && gives(1000, "1000.0"));
    CHECK(gives(0.0001, "0.0001") && gives(1.5e-5, "0.000015") && gives(1e-6, "1e-6") &&
          gives(1.25e-7, "1.25e-7"));
    CHECK(gives(1e15, "1000000000000000.0") && gives(1e16, "1e+16") &&
          gives(123456789012345680.0, "1.2345678901234568e+17"));
    CHECK(gives(5e-324, "5e-324") && gives(1.7976931348623157e308, "1.7976931348623157e+308"));
    CHECK(gives(2.2250738585072014e-308, "2.2250738585072014e-308") &&
          gives(9007199254740993.0, "9007199254740992.0"));
    CHECK(gives(5e-323, "5e-323") && gives(1e23, "1e+23") &&
          gives(9.5367431640625e-07, "9.5367431640625e-7"));
}

/* Of what printf rounds to, the shortest that is read back as the same; below a power
 * of two, where doubles are denser, there may be a shorter one. */
static size_t fewest_digits(double value)
{
    char text[40];

    for (int digits = 1; digits < 17; digits++) {
        snprintf(text, sizeof text, "%.*e", digits - 1, value);
        if (strtod(text, NULL) == value)
            return (size_t)digits;
    }
    return 17;
}

static size_t digits_of(const char *text, size_t len)
{
    size_t n = 0, zeros = 0;

    for (size_t i = 0; i < len && text[i] != 'e'; i++) {
        if (text[i] < '0' || text[i] > '9' || (text[i] == '0' && !n))
            continue;
        n++;
        zeros = text[i] == '0' ? zeros + 1 : 0;
    }
    return n - zeros;
}

static void check_one(double value)
{
    char out[SGC_JSON_NUMBER + 1];
    size_t len = sgc_json_number(value, out);

    out[len] = 0;
    CHECK_MSG(len <= SGC_JSON_NUMBER && strtod(out, NULL) == value, "%a is not %s", value, out);
    CHECK_MSG(digits_of(out, len) <= fewest_digits(value), "%s of %.17g is too long", out, value);
}

static void numbers_are_the_shortest_that_are_read_as_the_same(void)
{
    for (int exponent = -1074; exponent < 1024; exponent++) {
        double power = ldexp(1, exponent);
        check_one(power);
        check_one(nextafter(power, 0) > 0 ? nextafter(power, 0) : power);
        check_one(nextafter(power, INFINITY));
    }
    for (int n = 0; n < 20000; n++) {
        uint64_t bits = dice_bits();
        double value;
        memcpy(&value, &bits, sizeof value);
        if (isfinite(value) && value != 0)
            check_one(value);
        check_one((double)(bits >> 40) / 1000);
    }
}

static void integers_are_whole(void)
{
    char out[SGC_JSON_NUMBER];

    CHECK(sgc_json_integer(0, out) == 1 && out[0] == '0');
    CHECK(sgc_json_integer(INT64_MIN, out) == 20 && memcmp(out, "-9223372036854775808", 20) == 0);
    CHECK(sgc_json_integer(INT64_MAX, out) == 19 && memcmp(out, "9223372036854775807", 19) == 0);
}

static void text_is_quoted_and_escaped(void)
{
    static const char text[] = "a\"\\\b\f\n\r\t\x01\x1f\x7f/\xc3\xa9";
    static const char wanted[] = "\"a\\\"\\\\\\b\\f\\n\\r\\t\\u0001\\u001f\x7f/\xc3\xa9\"";
    char out[6 * sizeof text + 2];
    size_t len = sgc_json_text(SGC__STR(text), out);

    CHECK(len == sizeof wanted - 1 && memcmp(out, wanted, len) == 0);
    CHECK(sgc_json_text(SGC__STR(""), out) == 2 && memcmp(out, "\"\"", 2) == 0);
}

int main(void)
{
    numbers_are_laid_out_for_people();
    numbers_are_the_shortest_that_are_read_as_the_same();
    integers_are_whole();
    text_is_quoted_and_escaped();
    return check_done("test_json");
}
