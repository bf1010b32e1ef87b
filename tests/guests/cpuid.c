/*
 * cpuid - prints the CPU's vendor, and whether it has SSE2, VMX and SVM.
 */
#include "guest.h"

int main(void)
{
	uint32_t leaf = 0, b, c, d;

	__asm__ volatile("cpuid" : "+a"(leaf), "=b"(b), "=c"(c), "=d"(d));
	for (int i = 0; i < 32; i += 8)
		outb(PORT_CONSOLE, (uint8_t)(b >> i));
	for (int i = 0; i < 32; i += 8)
		outb(PORT_CONSOLE, (uint8_t)(d >> i));
	for (int i = 0; i < 32; i += 8)
		outb(PORT_CONSOLE, (uint8_t)(c >> i));
	leaf = 1;
	__asm__ volatile("cpuid" : "+a"(leaf), "=b"(b), "=c"(c), "=d"(d));
	print(d >> 26 & 1 ? "\nsse2\n" : "\nno sse2\n");
	print(c >> 5 & 1 ? "vmx\n" : "no vmx\n");
	leaf = 0x80000001;
	__asm__ volatile("cpuid" : "+a"(leaf), "=b"(b), "=c"(c), "=d"(d));
	print(c >> 2 & 1 ? "svm\n" : "no svm\n");
	return 0;
}
