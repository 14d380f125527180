/* A fold gives the error of the page, or what a naive reading of its samples gives. */
#include "wanted.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *input = fuzz_input(data, size);
    sgc_options options;
    sgc_error err, fold_err;
    sgc_page *page;
    sgc_fold *fold;

    for (fuzz_mode mode = FUZZ_TEXT; input && mode <= FUZZ_STRICT; mode++) {
        fuzz_options(&options, mode);
        sgc_status status = sgc_page_parse(input, size, &options, &page, &err);
        MUST(sgc_plan_fold(wanted_plan(), input, size, &options, &fold, &fold_err) == status);
        if (status == SGC_OK)
            naive_check(fold, page, input, size);
        else
            MUST(!fold && fuzz_same_error(&err, &fold_err));
        sgc_fold_free(fold);
        sgc_page_free(page);
    }
    return 0;
}
