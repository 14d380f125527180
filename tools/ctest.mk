# Builds tests/c/test_*.c, each with the whole core, and runs them.
#
#   make -f tools/ctest.mk [FLAVOUR=plain|asan|portable|tsan|valgrind] [TESTS="num page"]
#
# Every program ends with a line "NAME: N passed, N failed". Objects are kept by
# flavour in build/c-FLAVOUR; valgrind runs the plain ones, and portable is asan
# without SIMD.

FLAVOUR ?= plain
# What measures time is not run where an analyser distorts it; valgrind is too
# slow even for the deadlines of a scrape.
SKIP.asan := linear
SKIP.tsan := linear
SKIP.valgrind := linear scrape soak
TESTS ?= $(filter-out $(SKIP.$(FLAVOUR)),$(patsubst tests/c/test_%.c,%,$(sort $(wildcard tests/c/test_*.c))))
CURL_CONFIG ?= curl-config

FLAGS.plain := -O1
FLAGS.asan := -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
FLAGS.portable := $(FLAGS.asan) -DSGC_PORTABLE
FLAGS.tsan := -O1 -fsanitize=thread

RUN.asan := ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1
RUN.portable := $(RUN.asan)
RUN.tsan := TSAN_OPTIONS=halt_on_error=1
RUN.valgrind := valgrind -q --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite

BUILD := $(if $(filter valgrind,$(FLAVOUR)),plain,$(FLAVOUR))
ifeq ($(origin FLAGS.$(BUILD)),undefined)
$(error FLAVOUR=$(FLAVOUR): expected plain, asan, portable, tsan or valgrind)
endif

OUT := build/c-$(BUILD)
CORE := $(patsubst csrc/core/%.c,$(OUT)/%.o,$(wildcard csrc/core/*.c))
CFLAGS := -std=c11 -g -pthread -ffp-contract=off -Wall -Wextra -Werror -Icsrc/core -MMD -MP \
          $(FLAGS.$(BUILD)) $(shell $(CURL_CONFIG) --cflags)
LIBS := $(shell $(CURL_CONFIG) --libs) -lz -lm

.PHONY: run $(TESTS:%=run-%)
.SECONDARY:

run: $(TESTS:%=run-%)

$(TESTS:%=run-%): run-%: $(OUT)/test_%
	@$(RUN.$(FLAVOUR)) $<

$(OUT)/test_%: $(OUT)/test_%.o $(CORE)
	@$(CC) $(CFLAGS) -o $@ $^ $(LIBS)

$(OUT)/%.o: csrc/core/%.c tools/ctest.mk | $(OUT)
	@$(CC) $(CFLAGS) -c -o $@ $<

$(OUT)/test_%.o: tests/c/test_%.c tools/ctest.mk | $(OUT)
	@$(CC) $(CFLAGS) -c -o $@ $<

$(OUT):
	@mkdir -p $@

-include $(wildcard $(OUT)/*.d)
