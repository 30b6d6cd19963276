/* Attention of whole sequences in bfloat16, forward and backward, for processors with AVX512-BF16.

   A key-value head and the query heads that read it are one piece of work; a head stays in the core's own cache: its
   scores never go to memory.

     forward   s = scale Q K^T      p = exp(s - lse)      o = P V                          lse_t = log sum_s exp s_ts
     backward  dV = P^T dO          dP = dO V^T           dS = P (dP - delta)              delta_t = o_t . do_t
               dQ = scale dS K      dK = scale dS^T Q                                      (Dao et al. 2022, appendix B)

   Dropout puts P M and dP M in the place of P and dP where they meet V, with M = 0 or 1 / (1 - rate). M is a hash of
   (seed, head, query, key): both directions find it again, and nobody keeps it.

   vdpbf16ps multiplies pairs: c[n] += a[2p] b[2p][n] + a[2p+1] b[2p+1][n], sixteen n at once, in fp32. So every product
   here is one function, `product`: its left side is read two numbers at a time, its right side is laid out in pairs
   before. The backward pass works on transposed scores, keys by queries, which is the order its products want.

   Sequences are a multiple of 16 long, heads a multiple of 16 wide; groups of query heads may share a key-value head. */

#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#define ROWS 16 /* queries (forward) or keys (backward) taken together */

typedef uint16_t bf16;
typedef uint32_t pair; /* two bf16 */

/* [batch, heads, rows, width] in memory, strides in elements; the last dimension is contiguous */
typedef struct {
    bf16 *at;
    int64_t batch, head, row;
} View;

typedef struct {
    int64_t threads, batch, heads, groups, length, width, causal;
    float scale;
    uint32_t dropped; /* of 2^32 hashes, those below fall away; 0: no dropout */
    uint64_t seed;
} Shape;

/* What decides the hashes of one head. */
typedef struct {
    uint32_t start, factor;
} Salt;

static bf16 *head_of(View v, int64_t b, int64_t h) { return v.at + b * v.batch + h * v.head; }

static inline __m512 exponential(__m512 x) {
    x = _mm512_max_ps(_mm512_set1_ps(-87.0f), x); /* in this order what is no number stays none */
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 0);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    __m512 y = _mm512_set1_ps(1.0f / 120);
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f / 24));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f / 6));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(0.5f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(y, n);
}

static Salt salt_of(uint64_t seed, int64_t head) {
    uint64_t x = seed + 0x9E3779B97F4A7C15u * (uint64_t)(head + 1); /* splitmix64 (Steele et al. 2014) */
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    x ^= x >> 31;
    return (Salt){(uint32_t)x, (uint32_t)(x >> 32) | 1};
}

/* Which of sixteen weights stay; `places` tells query and key. */
static inline __mmask16 staying(Salt salt, __m512i places, uint32_t dropped) {
    __m512i x = _mm512_add_epi32(_mm512_mullo_epi32(places, _mm512_set1_epi32((int)0x9E3779B1u)),
                                 _mm512_set1_epi32((int)salt.start));
    x = _mm512_mullo_epi32(_mm512_xor_si512(x, _mm512_srli_epi32(x, 15)), _mm512_set1_epi32((int)salt.factor));
    x = _mm512_mullo_epi32(_mm512_xor_si512(x, _mm512_srli_epi32(x, 13)), _mm512_set1_epi32((int)0xC2B2AE35u));
    x = _mm512_xor_si512(x, _mm512_srli_epi32(x, 16));
    return _mm512_cmpge_epu32_mask(x, _mm512_set1_epi32((int)dropped));
}

static inline float raised(Shape shape) { return 1 / (1 - shape.dropped / 4294967296.0f); }

static inline __m512i numbers(void) {
    return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}

static inline __m256i rounded(__m512 x) { return (__m256i)_mm512_cvtneps_pbh(x); }

static inline __m512 widened(__m256i x) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
}

/* The first `count` of sixteen lanes. */
static inline __mmask16 first(int64_t count) {
    return count >= 16 ? 0xFFFF : count <= 0 ? 0 : (__mmask16)((1u << count) - 1);
}

static inline __attribute__((always_inline)) void tile(
    int columns, const pair *a, int64_t a_row, int64_t a_pair, const pair *b, int64_t b_pair, int64_t pairs, float *c,
    int64_t c_row, int add) {
    __m512 sum[4][4];
#pragma GCC unroll 4
    for (int r = 0; r < 4; r++)
#pragma GCC unroll 4
        for (int n = 0; n < columns; n++)
            sum[r][n] = add ? _mm512_loadu_ps(c + r * c_row + 16 * n) : _mm512_setzero_ps();
    for (int64_t p = 0; p < pairs; p++) {
        __m512bh right[4];
#pragma GCC unroll 4
        for (int n = 0; n < columns; n++) right[n] = (__m512bh)_mm512_loadu_si512(b + p * b_pair + 16 * n);
#pragma GCC unroll 4
        for (int r = 0; r < 4; r++) {
            __m512bh left = (__m512bh)_mm512_set1_epi32((int)a[r * a_row + p * a_pair]);
#pragma GCC unroll 4
            for (int n = 0; n < columns; n++) sum[r][n] = _mm512_dpbf16_ps(sum[r][n], left, right[n]);
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < 4; r++)
#pragma GCC unroll 4
        for (int n = 0; n < columns; n++) _mm512_storeu_ps(c + r * c_row + 16 * n, sum[r][n]);
}

/* c[ROWS, columns] = (c +) a b, over `pairs` pairs: a at a[r a_row + p a_pair], b at b[p b_pair + n]. */
static void product(
    const pair *a, int64_t a_row, int64_t a_pair, const pair *b, int64_t b_pair, int64_t pairs, float *c,
    int64_t c_row, int64_t columns, int add) {
    for (int64_t n = 0; n < columns; n += 64)
        for (int64_t r = 0; r < ROWS; r += 4) {
            const pair *left = a + r * a_row, *right = b + n;
            float *out = c + r * c_row + n;
            switch (columns - n < 64 ? (columns - n) / 16 : 4) {
                case 1: tile(1, left, a_row, a_pair, right, b_pair, pairs, out, c_row, add); break;
                case 2: tile(2, left, a_row, a_pair, right, b_pair, pairs, out, c_row, add); break;
                case 3: tile(3, left, a_row, a_pair, right, b_pair, pairs, out, c_row, add); break;
                default: tile(4, left, a_row, a_pair, right, b_pair, pairs, out, c_row, add);
            }
        }
}

/* Rows in twos: out[p, k] = (x[2p, k], x[2p+1, k]). What stands right of a sum over rows. */
static void pair_rows(pair *out, const bf16 *x, int64_t row, int64_t length, int64_t width) {
    for (int64_t p = 0; p < length / 2; p++)
        for (int64_t k = 0; k < width; k += 16) {
            __m512i even = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(x + 2 * p * row + k)));
            __m512i odd = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(x + (2 * p + 1) * row + k)));
            _mm512_storeu_si512(out + p * width + k, _mm512_or_si512(even, _mm512_slli_epi32(odd, 16)));
        }
}

/* Columns in twos, turned: out[p, t] = (x[t, 2p], x[t, 2p+1]). What stands right of a sum over columns. */
static void pair_columns(pair *out, const bf16 *x, int64_t row, int64_t length, int64_t width) {
    for (int64_t t = 0; t < length; t += 16)
        for (int64_t p = 0; p < width / 2; p++)
            for (int64_t i = 0; i < 16; i++) out[p * length + t + i] = ((const pair *)(x + (t + i) * row))[p];
}

/* Rounds ROWS rows, each times its factor, into a tensor. */
static void write_rows(bf16 *out, int64_t row, const float *x, const float *factors, float factor, int64_t width) {
    for (int64_t r = 0; r < ROWS; r++) {
        __m512 by = _mm512_set1_ps(factors ? factors[r] : factor);
        for (int64_t k = 0; k < width; k += 16)
            _mm256_storeu_si256(
                (__m256i *)(out + r * row + k), rounded(_mm512_mul_ps(_mm512_loadu_ps(x + r * width + k), by)));
    }
}

static void *room(void **memory, size_t bytes) {
    void *here = *memory;
    *memory = (char *)here + (bytes + 63) / 64 * 64;
    return here;
}

/* exp(scale s - largest) of ROWS rows, rounded into p; the sums, and what the backward pass needs of them. */
static void exponentials(
    const float *s, bf16 *p, float *inverses, float *lse, int64_t start, int64_t seen, Salt salt, Shape shape) {
    for (int64_t r = 0; r < ROWS; r++) {
        const float *row = s + r * shape.length;
        int64_t keys = shape.causal ? start + r + 1 : seen;
        __m512 largest = _mm512_set1_ps(-INFINITY), sum = _mm512_setzero_ps();
        for (int64_t n = 0; n < keys; n += 16)
            largest = _mm512_mask_max_ps(largest, first(keys - n), largest, _mm512_loadu_ps(row + n));
        float top = _mm512_reduce_max_ps(largest) * shape.scale;
        for (int64_t n = 0; n < seen; n += 16) {
            __m512 x = _mm512_fmsub_ps(_mm512_loadu_ps(row + n), _mm512_set1_ps(shape.scale), _mm512_set1_ps(top));
            x = _mm512_maskz_mov_ps(first(keys - n), exponential(x));
            sum = _mm512_add_ps(sum, x);
            if (shape.dropped) {
                __m512i places = _mm512_add_epi32(numbers(), _mm512_set1_epi32((int)((start + r) * shape.length + n)));
                x = _mm512_maskz_mov_ps(staying(salt, places, shape.dropped), x);
            }
            _mm256_storeu_si256((__m256i *)(p + r * shape.length + n), rounded(x));
        }
        float total = _mm512_reduce_add_ps(sum);
        inverses[r] = raised(shape) / total;
        lse[start + r] = top + logf(total);
    }
}

/* q, out [B, H, T, K], k, v [B, G, T, K], lse [B, H, T]; returns 0, or 1 where memory is wanting. scale > 0. */
int forward(View q, View k, View v, View out, float *lse, Shape shape) {
    int64_t T = shape.length, K = shape.width, share = shape.heads / shape.groups;
    int failed = 0;
#pragma omp parallel num_threads((int)shape.threads)
    {
        size_t bytes = 4 * T * K + ROWS * T * 6 + ROWS * K * 4 + 8 * 64;
        void *memory = aligned_alloc(64, (bytes + 63) / 64 * 64), *next = memory;
        if (!memory) {
#pragma omp atomic write
            failed = 1;
        }
        pair *keys = room(&next, T * K * 2), *values = room(&next, T * K * 2);
        float *scores = room(&next, ROWS * T * 4), *sums = room(&next, ROWS * K * 4);
        bf16 *weights = room(&next, ROWS * T * 2);
        float inverses[ROWS];
#pragma omp for schedule(static)
        for (int64_t item = 0; item < shape.batch * shape.groups; item++) {
            if (!memory) continue;
            int64_t b = item / shape.groups, g = item % shape.groups;
            pair_columns(keys, head_of(k, b, g), k.row, T, K);
            pair_rows(values, head_of(v, b, g), v.row, T, K);
            for (int64_t h = g * share; h < (g + 1) * share; h++) {
                Salt salt = salt_of(shape.seed, b * shape.heads + h);
                for (int64_t t = 0; t < T; t += ROWS) {
                    int64_t seen = shape.causal ? t + ROWS : T;
                    const pair *queries = (const pair *)(head_of(q, b, h) + t * q.row);
                    product(queries, q.row / 2, 1, keys, T, K / 2, scores, T, seen, 0);
                    exponentials(scores, weights, inverses, lse + (b * shape.heads + h) * T, t, seen, salt, shape);
                    product((const pair *)weights, T / 2, 1, values, K, seen / 2, sums, K, K, 0);
                    write_rows(head_of(out, b, h) + t * out.row, out.row, sums, inverses, 0, K);
                }
            }
        }
        free(memory);
    }
    return failed;
}

/* P and dS of the keys from `start` on, in every layout a product wants: p and ds [ROWS, T], ds_pairs [T / 2, T]. */
static void score_gradients(
    const float *s, const float *dp, const float *lse, const float *delta, bf16 *p, bf16 *ds, pair *ds_pairs,
    int64_t start, int64_t from, Salt salt, Shape shape) {
    int64_t T = shape.length;
    __m512i columns = _mm512_mullo_epi32(numbers(), _mm512_set1_epi32((int)T));
    __m512 by = _mm512_set1_ps(raised(shape));
    for (int64_t r = 0; r < ROWS; r += 2)
        for (int64_t t = from; t < T; t += 16) {
            __m256i halves[2];
            for (int64_t i = 0; i < 2; i++) {
                int64_t at = (r + i) * T + t, hidden = shape.causal ? start + r + i - t : 0;
                __m512 x = _mm512_fmsub_ps(
                    _mm512_loadu_ps(s + at), _mm512_set1_ps(shape.scale), _mm512_loadu_ps(lse + t));
                x = _mm512_maskz_mov_ps((__mmask16)~first(hidden), exponential(x));
                __m512 above = _mm512_loadu_ps(dp + at), used = x;
                if (shape.dropped) {
                    __m512i places = _mm512_add_epi32(columns, _mm512_set1_epi32((int)(t * T + start + r + i)));
                    __mmask16 stays = staying(salt, places, shape.dropped);
                    above = _mm512_maskz_mul_ps(stays, above, by);
                    used = _mm512_maskz_mul_ps(stays, x, by);
                }
                __m512 dx = _mm512_mul_ps(x, _mm512_sub_ps(above, _mm512_loadu_ps(delta + t)));
                halves[i] = rounded(dx);
                _mm256_storeu_si256((__m256i *)(p + at), rounded(used));
                _mm256_storeu_si256((__m256i *)(ds + at), halves[i]);
            }
            __m512i both = _mm512_or_si512(
                _mm512_cvtepu16_epi32(halves[0]), _mm512_slli_epi32(_mm512_cvtepu16_epi32(halves[1]), 16));
            _mm512_storeu_si512(ds_pairs + (start + r) / 2 * T + t, both);
        }
}

static void row_products(float *delta, const bf16 *x, int64_t x_row, const bf16 *y, int64_t y_row, Shape shape) {
    for (int64_t t = 0; t < shape.length; t++) {
        __m512 sum = _mm512_setzero_ps();
        for (int64_t k = 0; k < shape.width; k += 16)
            sum = _mm512_fmadd_ps(
                widened(_mm256_loadu_si256((const __m256i *)(x + t * x_row + k))),
                widened(_mm256_loadu_si256((const __m256i *)(y + t * y_row + k))), sum);
        delta[t] = _mm512_reduce_add_ps(sum);
    }
}

/* The gradients d_q, d_k, d_v from that of the output, d_out; shapes as in `forward`. */
int backward(
    View d_out, View q, View k, View v, View out, const float *lse, View d_q, View d_k, View d_v, Shape shape) {
    int64_t T = shape.length, K = shape.width, share = shape.heads / shape.groups;
    int failed = 0;
#pragma omp parallel num_threads((int)shape.threads)
    {
        size_t bytes = 5 * T * K * 2 + 2 * T * K * 4 + T * T * 2 + ROWS * T * 12 + ROWS * K * 4 + T * 4 + 16 * 64;
        void *memory = aligned_alloc(64, (bytes + 63) / 64 * 64), *next = memory;
        if (!memory) {
#pragma omp atomic write
            failed = 1;
        }
        pair *keys = room(&next, T * K * 2), *queries = room(&next, T * K * 2), *turned_queries = room(&next, T * K * 2);
        pair *above = room(&next, T * K * 2), *turned_above = room(&next, T * K * 2);
        float *sum_k = room(&next, T * K * 4), *sum_v = room(&next, T * K * 4), *sum_q = room(&next, ROWS * K * 4);
        pair *ds_pairs = room(&next, T * T * 2);
        float *s = room(&next, ROWS * T * 4), *dp = room(&next, ROWS * T * 4), *delta = room(&next, T * 4);
        bf16 *p = room(&next, ROWS * T * 2), *ds = room(&next, ROWS * T * 2);
#pragma omp for schedule(static)
        for (int64_t item = 0; item < shape.batch * shape.groups; item++) {
            if (!memory) continue;
            int64_t b = item / shape.groups, g = item % shape.groups;
            const bf16 *k_head = head_of(k, b, g), *v_head = head_of(v, b, g);
            pair_rows(keys, k_head, k.row, T, K);
            for (int64_t h = g * share; h < (g + 1) * share; h++) {
                const bf16 *q_head = head_of(q, b, h), *d_head = head_of(d_out, b, h);
                Salt salt = salt_of(shape.seed, b * shape.heads + h);
                const float *lse_head = lse + (b * shape.heads + h) * T;
                int add = h > g * share;
                pair_rows(queries, q_head, q.row, T, K);
                pair_columns(turned_queries, q_head, q.row, T, K);
                pair_rows(above, d_head, d_out.row, T, K);
                pair_columns(turned_above, d_head, d_out.row, T, K);
                row_products(delta, head_of(out, b, h), out.row, d_head, d_out.row, shape);
                for (int64_t start = 0; start < T; start += ROWS) {
                    int64_t from = shape.causal ? start : 0;
                    const pair *k_rows = (const pair *)(k_head + start * k.row);
                    const pair *v_rows = (const pair *)(v_head + start * v.row);
                    product(k_rows, k.row / 2, 1, turned_queries + from, T, K / 2, s + from, T, T - from, 0);
                    product(v_rows, v.row / 2, 1, turned_above + from, T, K / 2, dp + from, T, T - from, 0);
                    score_gradients(s, dp, lse_head, delta, p, ds, ds_pairs, start, from, salt, shape);
                    const pair *p_rows = (const pair *)(p + from), *ds_rows = (const pair *)(ds + from);
                    int64_t pairs = (T - from) / 2, row = from / 2 * K;
                    product(p_rows, T / 2, 1, above + row, K, pairs, sum_v + start * K, K, K, add);
                    product(ds_rows, T / 2, 1, queries + row, K, pairs, sum_k + start * K, K, K, add);
                }
                for (int64_t t = 0; t < T; t += ROWS) {
                    int64_t seen = shape.causal ? t + ROWS : T;
                    product(ds_pairs + t, 1, T, keys, K, seen / 2, sum_q, K, K, 0);
                    write_rows(head_of(d_q, b, h) + t * d_q.row, d_q.row, sum_q, 0, shape.scale, K);
                }
            }
            for (int64_t t = 0; t < T; t += ROWS) {
                write_rows(head_of(d_k, b, g) + t * d_k.row, d_k.row, sum_k + t * K, 0, shape.scale, K);
                write_rows(head_of(d_v, b, g) + t * d_v.row, d_v.row, sum_v + t * K, 0, 1, K);
            }
        }
        free(memory);
    }
    return failed;
}
