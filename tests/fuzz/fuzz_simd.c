/*
 * The core as this machine runs it against the portable one: same pages, same
 * folds, same errors in the same place. The second core is in the program under
 * names that begin with portable_.
 */
#include "fuzz.h"

void portable_fuzz_read(fuzz_reading *r, const char *data, size_t len, const sgc_options *options);
void portable_fuzz_reading_free(fuzz_reading *r);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *input = fuzz_input(data, size);
    sgc_options options;
    fuzz_reading here, portable;

    for (fuzz_mode mode = FUZZ_TEXT; input && mode <= FUZZ_STRICT; mode++) {
        fuzz_options(&options, mode);
        fuzz_read(&here, input, size, &options);
        portable_fuzz_read(&portable, input, size, &options);
        MUST(fuzz_same(&here, &portable));
        portable_fuzz_reading_free(&portable);
        fuzz_reading_free(&here);
    }
    return 0;
}
