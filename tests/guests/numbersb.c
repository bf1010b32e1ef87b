/*
 * numbersb - as numbers, but a byte at a time.
 */
#define OUTS "rep outsb"
#define SIZE 1
#include "numbers.c"
