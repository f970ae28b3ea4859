/* memcpy, memmove, memcmp and bcmp for the static executable on x86-64. Those of musl copy with
 * `rep movsq` and compare byte by byte. Nearly all copies of a proxy are short, and then most of the
 * time goes to the start of that instruction: 11.5 % of the processor time of a GET over HTTP/1.1
 * (bench/README.md). On ARM, musl has fast ones.
 *
 * Up to 128 bytes everything is read before anything is written, so it does not matter whether the
 * two places overlap. tests/it/memory.rs checks every length, alignment and distance. */

#include <emmintrin.h>
#include <stddef.h>
#include <stdint.h>

/* At any address, and whatever type the bytes have. */
typedef uint16_t __attribute__((may_alias, aligned(1))) u16;
typedef uint32_t __attribute__((may_alias, aligned(1))) u32;
typedef uint64_t __attribute__((may_alias, aligned(1))) u64;

static inline __m128i load(const char *from)
{
    return _mm_loadu_si128((const __m128i *)from);
}

static inline void store(char *to, __m128i bytes)
{
    _mm_storeu_si128((__m128i *)to, bytes);
}

static inline void store_aligned(char *to, __m128i bytes)
{
    _mm_store_si128((__m128i *)to, bytes);
}

/* Copies sizeof(type) to twice as many bytes: the first ones and the last ones, which may overlap. */
#define COPY_ENDS(type)                                                                            \
    do {                                                                                           \
        type first = *(const type *)s;                                                             \
        type last = *(const type *)(s + n - sizeof(type));                                         \
        *(type *)d = first;                                                                        \
        *(type *)(d + n - sizeof(type)) = last;                                                    \
    } while (0)

static void copy_16(char *d, const char *s, size_t n)
{
    if (n >= 8)
        COPY_ENDS(u64);
    else if (n >= 4)
        COPY_ENDS(u32);
    else if (n >= 2)
        COPY_ENDS(u16);
    else if (n == 1)
        *d = *s;
}

/* 17 to 128 bytes. */
static void copy_128(char *d, const char *s, size_t n)
{
    __m128i a = load(s), z = load(s + n - 16);
    if (n > 32) {
        __m128i b = load(s + 16), y = load(s + n - 32);
        if (n > 64) {
            __m128i c = load(s + 32), e = load(s + 48);
            __m128i w = load(s + n - 64), x = load(s + n - 48);
            store(d + 32, c);
            store(d + 48, e);
            store(d + n - 64, w);
            store(d + n - 48, x);
        }
        store(d + 16, b);
        store(d + n - 32, y);
    }
    store(d, a);
    store(d + n - 16, z);
}

/* More than 128 bytes, to a place that is not within the source. The ends are read first: the loop
 * starts where `d` is aligned, ends up to 64 bytes early, and may overwrite them. */
static void copy_upwards(char *d, const char *s, size_t n)
{
    __m128i a = load(s);
    __m128i w = load(s + n - 64), x = load(s + n - 48), y = load(s + n - 32), z = load(s + n - 16);
    for (size_t i = 16 - ((uintptr_t)d & 15); i < n - 64; i += 64) {
        __m128i b = load(s + i), c = load(s + i + 16), e = load(s + i + 32), f = load(s + i + 48);
        store_aligned(d + i, b);
        store_aligned(d + i + 16, c);
        store_aligned(d + i + 32, e);
        store_aligned(d + i + 48, f);
    }
    store(d + n - 64, w);
    store(d + n - 48, x);
    store(d + n - 32, y);
    store(d + n - 16, z);
    store(d, a);
}

/* The same to a place that begins within the source. */
static void copy_downwards(char *d, const char *s, size_t n)
{
    __m128i a = load(s), b = load(s + 16), c = load(s + 32), e = load(s + 48);
    __m128i z = load(s + n - 16);
    for (size_t i = n - ((uintptr_t)(d + n) & 15); i > 64; i -= 64) {
        __m128i w = load(s + i - 64), x = load(s + i - 48), y = load(s + i - 32), v = load(s + i - 16);
        store_aligned(d + i - 16, v);
        store_aligned(d + i - 32, y);
        store_aligned(d + i - 48, x);
        store_aligned(d + i - 64, w);
    }
    store(d, a);
    store(d + 16, b);
    store(d + 32, c);
    store(d + 48, e);
    store(d + n - 16, z);
}

void *memmove(void *to, const void *from, size_t n)
{
    if (n <= 16)
        copy_16(to, from, n);
    else if (n <= 128)
        copy_128(to, from, n);
    else if ((uintptr_t)to - (uintptr_t)from >= n)
        copy_upwards(to, from, n);
    else
        copy_downwards(to, from, n);
    return to;
}

void *memcpy(void *restrict to, const void *restrict from, size_t n)
    __attribute__((alias("memmove")));

int memcmp(const void *left, const void *right, size_t n)
{
    const unsigned char *l = left, *r = right;
    size_t i = 0;
    if (n < 16) {
        for (; i < n; i++)
            if (l[i] != r[i])
                return l[i] - r[i];
        return 0;
    }
    for (;;) {
        __m128i same = _mm_cmpeq_epi8(load((const char *)l + i), load((const char *)r + i));
        unsigned differ = 0xffff ^ (unsigned)_mm_movemask_epi8(same);
        if (differ != 0) {
            i += (unsigned)__builtin_ctz(differ);
            return l[i] - r[i];
        }
        i += 16;
        if (i >= n)
            return 0;
        /* The last 16 bytes, of which some have been compared. */
        if (i > n - 16)
            i = n - 16;
    }
}

int bcmp(const void *left, const void *right, size_t n) __attribute__((alias("memcmp")));
