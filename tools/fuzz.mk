# Builds tests/fuzz/fuzz_NAME.c, each with the parsing side of the core.
#
#   make -f tools/fuzz.mk [FLAVOUR=asan|coverage]
#
# Programs and objects are kept by flavour in build/fuzz-FLAVOUR. A target takes
# from the core's archive what it calls, so that none is linked with libcurl.
# simd has the core a second time: built with SGC_PORTABLE, its symbols renamed.

FLAVOUR ?= asan
CLANG ?= clang
CURL_CONFIG ?= curl-config

FLAGS.asan := -O2 -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
FLAGS.coverage := -O1 -fprofile-instr-generate -fcoverage-mapping -fsanitize=fuzzer-no-link
LINK.asan := -fsanitize=fuzzer,address,undefined
LINK.coverage := -fsanitize=fuzzer -fprofile-instr-generate

OUT := build/fuzz-$(FLAVOUR)
TARGETS := $(patsubst tests/fuzz/fuzz_%.c,%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))
# Their input is no page, to be changed by its lines.
OWN_MUTATOR := answer json number

SHARED := $(patsubst tests/fuzz/%.c,$(OUT)/%.o,\
            $(filter-out tests/fuzz/fuzz_% tests/fuzz/mutate.c,$(wildcard tests/fuzz/*.c)))
CORE := $(patsubst csrc/core/%.c,$(OUT)/core/%.o,$(wildcard csrc/core/*.c))
PORTABLE := $(patsubst csrc/core/%.c,$(OUT)/portable/%.o,$(wildcard csrc/core/*.c))
CFLAGS := -std=c11 -g -pthread -ffp-contract=off -Wall -Wextra -Werror -Icsrc/core -Itests/c -MMD -MP \
          $(FLAGS.$(FLAVOUR)) $(shell $(CURL_CONFIG) --cflags)

.PHONY: all
.SECONDARY:

all: $(TARGETS:%=$(OUT)/fuzz_%)

$(OUT)/fuzz_%: $(OUT)/fuzz_%.o $(OUT)/libshared.a $(OUT)/libcore.a
	@$(CLANG) $(LINK.$(FLAVOUR)) -pthread -o $@ $(filter %.o,$^) $(filter %.a,$^) -lz -lm

$(patsubst %,$(OUT)/fuzz_%,$(filter-out $(OWN_MUTATOR),$(TARGETS))): $(OUT)/mutate.o
$(OUT)/fuzz_simd: $(OUT)/portable.o

# The portable core in one object that gives nothing but portable_ names.
$(OUT)/portable.o: $(OUT)/describe.o $(OUT)/edge.o $(OUT)/libportable.a
	@ld -r -o $@.all $(OUT)/describe.o $(OUT)/libportable.a
	@nm --defined-only --extern-only $@.all | awk '$$3 ~ /^(sgc_|fuzz_)/ {print $$3, "portable_" $$3}' >$@.names
	@objcopy --redefine-syms=$@.names $@.all $@

$(OUT)/libshared.a: $(SHARED)
$(OUT)/libcore.a: $(CORE)
$(OUT)/libportable.a: $(PORTABLE)
$(OUT)/%.a:
	@rm -f $@ && ar rcs $@ $^

$(OUT)/core/%.o: csrc/core/%.c tools/fuzz.mk
	@mkdir -p $(@D) && $(CLANG) $(CFLAGS) -c -o $@ $<

$(OUT)/portable/%.o: csrc/core/%.c tools/fuzz.mk
	@mkdir -p $(@D) && $(CLANG) $(CFLAGS) -DSGC_PORTABLE -c -o $@ $<

$(OUT)/%.o: tests/fuzz/%.c tools/fuzz.mk
	@mkdir -p $(@D) && $(CLANG) $(CFLAGS) -c -o $@ $<

-include $(wildcard $(OUT)/*.d $(OUT)/*/*.d)
