# `make help' tells what there is to make. tests/Makefile has the tests' part.

PREFIX	?= /usr/local
CFLAGS	?= -O2 -g
OBJCOPY	?= objcopy
GDB	?= gdb
# For a guest of your own: the compiler's options, the mode, the RAM it must fit
# into, 1 if it may use floating point, and objects or archives to link with it.
GUEST_CFLAGS ?= -O2
MODE	= 64
RAM	= 2M
FLOAT	=
OBJS	=

# $(call step,WORD) before a command prints a short line in the command's place.
# V=1 shows the command instead, and make -s nothing.
LETTERS	:= $(filter-out --%,$(firstword -$(MAKEFLAGS)))
SILENT	:= $(findstring s,$(LETTERS))
DRY	:= $(findstring n,$(LETTERS))
step	= $(if $(V),,@$(if $(SILENT),,$(info $(1)	$@)))
# Only the rules below: the built-in ones would compile guests as programs.
MAKEFLAGS += --no-builtin-rules
.SECONDARY .DELETE_ON_ERROR:
.PHONY: all run install uninstall clean help FORCE

all: simple-kvm
	@$(if $(SILENT),:,echo 'Next: make run, make test or make help')
# ----------------------------------------------------------------- simple-kvm
WARN	= -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes \
	  -Wmissing-prototypes -Wpointer-arith -Wwrite-strings \
	  -Wno-unused-parameter
# What checks buffers needs the optimizer; your flags may ask for more of it.
FORTIFY	= $(if $(findstring _FORTIFY_SOURCE,$(CPPFLAGS) $(CFLAGS)),,\
	  -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
HOST_CFLAGS = -std=gnu11 $(WARN) -fPIE -fstack-protector-strong \
	  $(if $(filter-out -O0,$(filter -O%,$(CFLAGS))),$(FORTIFY)) \
	  $(CPPFLAGS) $(CFLAGS)

# A static program starts faster. It takes libc.a and, to be independent of its
# position, rcrt1.o. Not every system has them.
libfile	= $(filter /%,$(shell $(CC) -print-file-name=$(1)))
STATIC	= $(and $(call libfile,libc.a),$(call libfile,rcrt1.o))
HOST_LDFLAGS = $(if $(STATIC),-static-pie,-pie) -Wl,-z,relro,-z,now $(LDFLAGS)
# Before glibc 2.34 timer_create() is in librt, and that needs libpthread.
LDLIBS	?= -lrt -lpthread

# A compiler for x86-64 has a value for this name; another leaves it as it is.
check	= $(if $(findstring __x86_64__,$(shell echo __x86_64__ | \
	  $(CC) $(CPPFLAGS) $(CFLAGS) -E -x c -)),$(error simple-kvm is for \
	  x86-64, and "$(strip $(CC) $(CFLAGS))" compiles for another machine))

simple-kvm: simple-kvm.o images.o
	$(call step,LD)$(CC) $(HOST_CFLAGS) $(HOST_LDFLAGS) -o $@ $^ $(LDLIBS)

simple-kvm.o: simple-kvm.c simple-kvm.flags
	$(check)$(call step,CC)$(CC) $(HOST_CFLAGS) -MMD -MP -c -o $@ $<

# The built-in guests, as read-only data between NAME and NAME_end.
GUESTS	= guest16 guest32 guest64
IMAGES	= .section .rodata; $(foreach g,$(GUESTS),\
	  .globl $g, $g_end; $g: .incbin "$g.bin"; $g_end:;)
images.o: $(GUESTS:=.bin)
	$(call step,AS)echo '$(IMAGES)' | $(AS) --64 --noexecstack -o $@

# --------------------------------------------------------------------- guests
# Guests run on bare metal, where nothing is of use that a distribution's
# compiler may add by default. CFLAGS and LDFLAGS are not for guests.
BARE	= -m$(MODE) -DMODE=$(MODE) -std=gnu11 -ffreestanding -fno-pic -fno-pie \
	  -fno-stack-protector -fcf-protection=none -g -I. \
	  -fno-asynchronous-unwind-tables -fno-unwind-tables -Wall -Wextra
# The frame of an exception goes right below the stack pointer; address 0 is
# memory like any other; and all memory may be used as any type.
BARE	+= -mno-red-zone -fno-delete-null-pointer-checks -fno-strict-aliasing \
	   -Wno-array-bounds
# Compilers would copy structs by SSE, and not every KVM can emulate it. FLOAT=1
# allows it in long mode, and elsewhere the x87: SSE is not switched on there.
BARE	+= $(if $(FLOAT:0=),$(if $(filter 64,$(MODE)),,-mno-mmx -mno-sse),\
	   -mgeneral-regs-only) -fno-tree-vectorize -fno-tree-slp-vectorize \
	   $(GUEST_CFLAGS) -fno-lto

$(if $(filter 16 32 64,$(MODE)),,$(error MODE is 16, 32 or 64))
BITS	= $(patsubst 16,32,$(MODE))
REAL	= $(filter 16,$(MODE))
# An image must fit below this: 64 KiB, or the end of RAM less the stack's page.
# The shell works it out, for an old linker only adds and subtracts there.
RAM_END	= $(if $(REAL),0x10000,$(subst K,*1024,$(subst M,*1024K,\
	  $(subst G,*1024M,$(RAM))))-0x1000)
# What is left of RAM without its digits: nothing, or a letter at its end.
UNIT	:= $(RAM)
$(foreach d,0 1 2 3 4 5 6 7 8 9,$(eval UNIT := $(subst $d,,$(UNIT))))
$(if $(filter-out K M G,$(UNIT))$(filter-out %$(UNIT),$(RAM)),\
	$(error RAM is a number, or one with K, M or G))

# The built-in guests have modes of their own, whatever is said of yours.
$(foreach m,16 32 64,$(eval guest$m.%: override MODE = $m))
$(GUESTS:=.%): override RAM = 2M
$(GUESTS:=.%): override FLOAT =
$(GUESTS:=.%): override OBJS =

%.o: %.c %.flags
	$(call step,CC)$(CC) $(BARE) -MMD -MP -c -o $@ $<
# As -MP does it, each file that is included has a rule, lest make stop when it
# is gone.
%.o: %.s %.flags
	$(call step,AS)$(AS) --$(BITS) -g --MD $*.d -o $@ $<
	@sed -e 's/^[^:]*://' -e 's/\\$$//' $*.d | tr -s ' ' '\n' | \
		grep -vx -e '' -e '$<' | sed 's/$$/:/' >>$*.d

# Guests that are asked for by name have the objects of OBJS in them, too. What a
# test guest in C is made of has its name without the mode.
ASKED	:= $(basename $(filter %.bin %.elf %.debug,$(MAKECMDGOALS)))
source	= $(wildcard $(addprefix $1,.c .s .o) $(foreach m,16 32 64,$(1:%$m=%.c)))
$(foreach a,$(ASKED),$(if $(call source,$a),,$(error there is no $a.c or $a.s)))
$(ASKED:=.elf): %.elf: %.o $(OBJS)

# -n: do not begin sections on pages of their own.
%.elf: %.o guest.ld
	$(call step,LD)$(LD) -m elf_$(if $(filter 64,$(BITS)),x86_64,i386) \
		-n --build-id=none -z noexecstack -T guest.ld \
		--defsym=ram_end=$$(($(RAM_END))) -o $@ $< $(OBJS)
%.bin: %.elf
	$(call step,OBJCOPY)$(OBJCOPY) -O binary $< $@

# Not a file: gdb on a guest. It has the terminal, and make waits for it.
%.debug: %.elf simple-kvm FORCE
	$(GDB) $< $(if $(REAL),-ex 'set architecture i8086') -ex \
		'target remote | ./simple-kvm --gdb -m $(RAM) $(REAL:16=-r )$<'

# What was built with other flags, or for another mode, is built again: a file
# has the flags. `make install' does not look, for sudo drops CFLAGS.
simple-kvm.flags: FLAGS = $(strip $(CC) $(HOST_CFLAGS) $(HOST_LDFLAGS))
%.flags: FLAGS = $(strip $(CC) $(AS) $(LD) $(BARE) $(RAM_END) $(OBJS))
%.flags: $(if $(filter-out install,$(or $(MAKECMDGOALS),all)),FORCE)
	$(if $(subst x$(FLAGS)x,,x$(strip $(file <$@))x),\
		$(if $(DRY),,$(file >$@,$(FLAGS))))
LEFT	:= $(wildcard *.flags tests/*/*.flags)
-include $(LEFT:.flags=.d) $(ASKED:=.d) $(patsubst %.o,%.d,$(filter %.o,$(OBJS)))

# ------------------------------------------------------------ everything else
run: simple-kvm
	./simple-kvm --long

quote	= '$(subst ','\'',$(1))'
PROGRAM	= $(call quote,$(DESTDIR)$(PREFIX)/bin/simple-kvm)
MANUAL	= $(call quote,$(DESTDIR)$(PREFIX)/share/man/man1/simple-kvm.1)
install: simple-kvm
	install -D -m 755 simple-kvm $(PROGRAM)
	install -D -m 644 simple-kvm.1 $(MANUAL)
uninstall:
	rm -f $(PROGRAM) $(MANUAL)

# $(call made,NAMES): files of those that make has built, for it left the flags.
made	= $(foreach x,o d elf bin flags,\
	  $(addsuffix .$x,$(filter $(1),$(LEFT:.flags=))))
clean::
	@rm -f simple-kvm images.o $(call made,$(basename $(wildcard *.[cs])))

help::
	@echo 'make             build ./simple-kvm (V=1: show the commands)'
	@echo 'make run         run the guest of long mode'
	@echo 'make NAME.bin    build a flat image (NAME.elf: ELF) of NAME.c or NAME.s'
	@echo '                 (MODE=16, 32, 64; RAM=, FLOAT=1, OBJS=, GUEST_CFLAGS=)'
	@echo 'make NAME.debug  build NAME.elf, likewise, and run it under gdb'
	@echo 'make install     to PREFIX, or /usr/local (and make uninstall)'
	@echo 'make clean       remove what was built'

include tests/Makefile
