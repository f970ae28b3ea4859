/* Compares the functions of src/memory.c, which are compiled with names of their own here, with what
 * they are to do byte by byte. Prints how many calls were right, or the first that was not. */

#include <stdio.h>
#include <string.h>

void *own_memmove(void *, const void *, size_t);
void *own_memcpy(void *, const void *, size_t);
int own_memcmp(const void *, const void *, size_t);
int own_bcmp(const void *, const void *, size_t);

enum { PLACE = 2048, START = 768, LONGEST = 600 };

static unsigned char source[PLACE], expected[PLACE], got[PLACE];

static void fill(void)
{
    static unsigned seed = 1;
    for (size_t i = 0; i < PLACE; i++)
        source[i] = (unsigned char)((seed = seed * 1103515245 + 12345) >> 16);
}

/* Each length, each alignment of the source, and each distance at which the places touch. */
static int copies(void)
{
    int calls = 0;
    for (long n = 0; n <= LONGEST; n++)
        for (long from = START; from < START + 16; from += n < 200 ? 1 : 5)
            for (long to = from - n - 17; to <= from + n + 17; to += n < 140 ? 1 : 7) {
                if (calls % 64 == 0)
                    fill();
                memcpy(expected, source, PLACE);
                memcpy(got, source, PLACE);
                for (long i = 0; i < n; i++)
                    expected[to + i] = source[from + i];
                int apart = to + n <= from || from + n <= to;
                void *(*copy)(void *, const void *, size_t) = own_memmove;
                if (apart && calls % 2)
                    copy = own_memcpy;
                if (copy(got + to, got + from, (size_t)n) != got + to || memcmp(got, expected, PLACE)) {
                    printf("%ld bytes from %ld to %ld are copied wrongly\n", n, from, to);
                    return -1;
                }
                calls++;
            }
    return calls;
}

static int sign(int value) { return (value > 0) - (value < 0); }

/* Each length and alignment, equal and with a difference at each byte; what follows is different. */
static int comparisons(void)
{
    int calls = 0;
    for (size_t n = 0; n <= 100; n++)
        for (size_t x = 0; x < 17; x++)
            for (size_t y = 0; y < 17; y++) {
                unsigned char *left = source + x, *right = got + y;
                memcpy(right, left, n);
                right[n] = (unsigned char)~left[n];
                if (own_memcmp(left, right, n) != 0 || own_bcmp(left, right, n) != 0) {
                    printf("%zu equal bytes at %zu and %zu differ\n", n, x, y);
                    return -1;
                }
                for (size_t i = 0; i < n; i++) {
                    right[i] = (unsigned char)(left[i] + 1 + i * 37 % 255);
                    int order = left[i] < right[i] ? -1 : 1;
                    if (sign(own_memcmp(left, right, n)) != order || own_bcmp(left, right, n) == 0) {
                        printf("%zu bytes at %zu and %zu with a difference at %zu\n", n, x, y, i);
                        return -1;
                    }
                    right[i] = left[i];
                    calls++;
                }
            }
    return calls;
}

int main(void)
{
    int copied = copies();
    int compared = copied < 0 ? -1 : comparisons();
    if (compared < 0)
        return 1;
    printf("%d copies, %d comparisons\n", copied, compared);
    return 0;
}
