# `make help' tells what there is to make.

# Only the rules below: the built-in ones would compile guests as programs.
MAKEFLAGS += --no-builtin-rules

PREFIX	?= /usr/local
CFLAGS	?= -O2 -g
# timer_create() is in libc only since glibc 2.34; before, it is in librt, which
# wants libpthread. Both are still there, and empty, later.
LDLIBS	?= -lrt -lpthread
MODE	= 64
RAM	= 2M
FLOAT	=
OBJS	=

WARN	:= -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes \
	   -Wmissing-prototypes -Wpointer-arith -Wwrite-strings

# A static program starts faster. libc.a is not everywhere, however, and
# rcrt1.o is what makes a static program position-independent.
libfile	= $(filter /%,$(shell $(CC) -print-file-name=$(1)))
STATIC	:= $(if $(and $(call libfile,libc.a),$(call libfile,rcrt1.o)),y)
PIE	:= $(if $(STATIC),-static-pie,-pie)

# The sanitizers' runtime wants a dynamic program.
SAN	:= -fsanitize=address,undefined -fno-sanitize-recover=all

# Against bugs of our own. What checks buffers needs the optimizer; the user's
# flags may ask for another level of it.
FORTIFY	= $(if $(findstring _FORTIFY_SOURCE,$(CPPFLAGS) $(CFLAGS)),,\
	  -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
HARDEN	= -fstack-protector-strong \
	  $(if $(filter-out -O0,$(filter -O%,$(CFLAGS))),$(FORTIFY))

HOST_CFLAGS	= -std=gnu11 $(WARN) -fPIE $(HARDEN) $(CPPFLAGS) $(CFLAGS)
HOST_LDFLAGS	= $(PIE) -Wl,-z,relro,-z,now,-z,noexecstack $(LDFLAGS)

# Guests run on bare metal, so whatever a distribution's compiler adds by
# default is turned off. They use the general registers only: compilers would
# copy structs by SSE, and not every KVM can emulate it. FLOAT=1 allows floating
# point: SSE in long mode, elsewhere the x87, since SSE is not switched on there.
# CFLAGS and LDFLAGS are not for guests: GUEST_CFLAGS is.
GUEST_CFLAGS	?= -O2
BITS		= $(if $(filter 64,$(MODE)),64,32)
BARE		= -m$(MODE) -DMODE=$(MODE) -std=gnu11 -ffreestanding -fno-pic -fno-pie \
		  -fno-stack-protector -fcf-protection=none \
		  -fno-asynchronous-unwind-tables -fno-unwind-tables \
		  -fno-tree-vectorize -fno-tree-slp-vectorize -mno-red-zone \
		  -fno-delete-null-pointer-checks -fno-strict-aliasing \
		  $(if $(FLOAT),$(NO_SSE),-mgeneral-regs-only) \
		  -Wall -Wextra -Wno-array-bounds -I. -g $(GUEST_CFLAGS)
NO_SSE		= $(if $(filter 64,$(MODE)),,-mno-mmx -mno-sse)
# What an image must fit below: 64 KiB in real mode; elsewhere the end of RAM
# less a page for the stack.
RAM_END		= $(if $(filter 16,$(MODE)),0x10000,$(RAM)-0x1000)
# The mode's option of simple-kvm.
OPTION		= $(patsubst 16,-r,$(patsubst 32,-s,$(patsubst 64,-l,$(MODE))))

GUESTS	:= guest16 guest32 guest64
# The tests' guests end in their mode as the built-in ones do. One in C is
# built for every mode: x.c gives x16, x32 and x64.
TEST_C	:= $(basename $(wildcard tests/guests/*.c))
TEST_GUESTS	:= $(TEST_C:=16) $(TEST_C:=32) $(TEST_C:=64) \
		   $(basename $(wildcard tests/guests/*.s))
TESTS	?= $(wildcard tests/*.t)

all: simple-kvm

simple-kvm: simple-kvm.o $(GUESTS:=.img.o)
	$(CC) $(HOST_CFLAGS) $(HOST_LDFLAGS) -o $@ $^ $(LDLIBS)

simple-kvm.o: simple-kvm.c simple-kvm.flags
	$(CC) $(HOST_CFLAGS) -MMD -c -o $@ $<

asan/simple-kvm: simple-kvm.c $(GUESTS:=.img.o) simple-kvm.flags
	@mkdir -p $(@D)
	$(CC) -std=gnu11 $(WARN) -DSANITIZE $(CPPFLAGS) -O1 -g $(SAN) $(LDFLAGS) \
		-o $@ \
		$(filter %.c %.o,$^) $(LDLIBS)

# For tests/sandbox.t: it makes system calls in the program's place.
tests/tamper: tests/tamper.c simple-kvm.flags
	$(CC) -std=gnu11 $(WARN) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $<

# ---------------------------------------------------------------- guests

guest16.% tests/guests/%16.bin tests/guests/%16.elf: override MODE = 16
guest32.% tests/guests/%32.bin tests/guests/%32.elf: override MODE = 32
guest64.% tests/guests/%64.bin tests/guests/%64.elf: override MODE = 64
tests/bench/%64.bin: override MODE = 64
tests/bench/%64.bin: override RAM = 2M
# What is said of a guest of one's own is not said of these.
OURS	:= $(foreach g,$(GUESTS) $(TEST_GUESTS),$(g).bin $(g).elf)
$(OURS): override RAM = 2M
$(OURS): override FLOAT =
$(OURS): override OBJS =
tests/guests/sse64.bin tests/guests/sse64.elf: override FLOAT = 1

%.o: %.c %.flags
	$(CC) $(BARE) -MMD -c -o $@ $<

define test_guest_rule
tests/guests/%$(1).o: tests/guests/%.c tests/guests/%$(1).flags
	$$(CC) $$(BARE) -MMD -c -o $$@ $$<
endef
$(foreach m,16 32 64,$(eval $(call test_guest_rule,$(m))))

%.o: %.s %.flags
	$(AS) --$(BITS) -g -o $@ $<

# Guests that are asked for by name have the objects of OBJS in them, too.
ASKED	:= $(basename $(filter %.bin %.elf %.debug,$(MAKECMDGOALS)))
$(ASKED:=.elf): $(OBJS)

%.elf: %.o guest.ld
	$(LD) -m $(if $(filter 64,$(MODE)),elf_x86_64,elf_i386) -n -static \
		--build-id=none -z noexecstack --defsym=ram_end=$(RAM_END) \
		-T guest.ld -o $@ $< $(OBJS)

%.bin: %.elf
	$(OBJCOPY) -O binary $< $@

# Not a file: gdb on a guest. It has the terminal, and make waits for it.
%.debug: %.elf simple-kvm FORCE
	$(GDB) $< -ex \
		'target remote | ./simple-kvm --gdb -m $(RAM) $(OPTION) $<'

# The image as an object file: read-only data between NAME and NAME_end, and a
# note that it needs no executable stack, which binutils 2.40 asks for.
%.img.o: %.bin
	$(OBJCOPY) -I binary -O elf64-x86-64 -B i386:x86-64 \
		--rename-section .data=.rodata,alloc,load,readonly,data,contents \
		--redefine-sym _binary_$*_bin_start=$* \
		--redefine-sym _binary_$*_bin_end=$*_end \
		--strip-symbol _binary_$*_bin_size \
		--add-section .note.GNU-stack=/dev/null \
		--set-section-flags .note.GNU-stack=contents,readonly $< $@

OBJCOPY	?= objcopy
GDB	?= gdb

# What is built with other flags than last time, or for another mode, is built
# again: the flags are in a file that is only written when they change.
simple-kvm.flags: FLAGS = $(CC) $(HOST_CFLAGS) $(HOST_LDFLAGS)
%.flags: FLAGS = $(CC) $(AS) $(LD) $(BARE) $(RAM_END) $(OBJS)
%.flags: FORCE
	@printf '%s\n' '$(FLAGS)' | cmp -s - $@ || \
		printf '%s\n' '$(FLAGS)' >$@

FORCE:
.PHONY: all run test test-svm test-vmx test-backends bench install uninstall \
	clean help FORCE
.SECONDARY:
.DELETE_ON_ERROR:

# ------------------------------------------------------------- everything else

run: simple-kvm
	./simple-kvm --long

# SANITIZE=1 tests a build that watches every memory access.
test: $(if $(SANITIZE),asan/)simple-kvm tests/tamper $(TEST_GUESTS:=.bin)
	@command -v prove >/dev/null || \
		{ echo 'prove not found: apt-get install perl' >&2; exit 1; }
	SIMPLE_KVM=$(CURDIR)/$< MAKE='$(MAKE)' prove $(PROVEFLAGS) $(TESTS)

# The tests on other KVM backends, in emulated machines.
test-svm: BACKENDS = svm
test-vmx: BACKENDS = vmx
test-backends: BACKENDS = svm vmx
test-svm test-vmx test-backends: simple-kvm $(TEST_GUESTS:=.bin)
	TESTS='$(TESTS)' PROVEFLAGS='$(PROVEFLAGS)' tests/backends/run $(BACKENDS)

# How fast it is, next to the least that does the same. It takes less than a
# minute; ROUNDS=10 measures ten times as often.
BENCH_CFLAGS = -std=gnu11 $(WARN) -O2 -static -fno-pie

tests/bench/bench: tests/bench/bench.c simple-kvm.flags
	$(CC) $(BENCH_CFLAGS) -o $@ $<

tests/bench/yardstick: tests/bench/yardstick.c guest64.img.o simple-kvm.flags
	$(CC) $(BENCH_CFLAGS) -o $@ $(filter %.c %.o,$^)

bench: simple-kvm tests/bench/bench tests/bench/yardstick \
		guest64.bin tests/bench/outs64.bin
	tests/bench/bench ./simple-kvm tests/bench/yardstick guest64.bin \
		tests/bench/outs64.bin $(ROUNDS)

install: simple-kvm
	install -d '$(DESTDIR)$(PREFIX)/bin'
	install -m 755 simple-kvm '$(DESTDIR)$(PREFIX)/bin/simple-kvm'

uninstall:
	rm -f '$(DESTDIR)$(PREFIX)/bin/simple-kvm'

clean:
	rm -rf simple-kvm asan tests/tamper tests/bench/bench tests/bench/yardstick
	rm -f $(foreach d,. tests/guests tests/bench,$(addprefix $(d)/,*.o *.d *.elf *.bin *.flags))

help:
	@echo 'make             build ./simple-kvm'
	@echo 'make run         build it and run the guest of long mode'
	@echo 'make test        run the tests (SANITIZE=1: on a sanitizer build;'
	@echo '                 REQUIRE_KVM=1: without KVM, fail and do not skip)'
	@echo 'make test-svm, test-vmx, test-backends'
	@echo '                 run the tests on kvm_amd, on kvm_intel, on both, in'
	@echo '                 emulated machines (KEEP=DIR: leave the logs there)'
	@echo 'make bench       measure it next to the least there can be, within'
	@echo '                 a minute (ROUNDS=10: ten times as often)'
	@echo 'make NAME.bin    build a flat guest image from NAME.c or NAME.s'
	@echo '                 (MODE=16, 32 or 64; RAM=2M: what it must fit into;'
	@echo '                 FLOAT=1: with floating point, by SSE in long mode;'
	@echo '                 OBJS="a.o b.o": of these, from a.c and b.s, too)'
	@echo 'make NAME.debug  build NAME.elf, likewise, and run it under gdb'
	@echo 'make install     to PREFIX, /usr/local unless told; DESTDIR is known'
	@echo 'make uninstall   remove what install put there'
	@echo 'make clean       remove what was built'

-include $(wildcard *.d tests/guests/*.d $(ASKED:=.d) $(OBJS:.o=.d))
