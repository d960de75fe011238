// Vectors of WIDTH floats that the compiler maps to one register of the instruction set it compiles for: a wider
// vector than the machine has would be split badly. Arrays are padded to whole cache lines, so every width divides them.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

#ifndef WIDTH
#define WIDTH 4
#endif

namespace VARIANT {

constexpr int PAD = 16;

typedef float Vec __attribute__((vector_size(4 * WIDTH)));
typedef int Ints __attribute__((vector_size(4 * WIDTH)));

inline int padded(int n) { return (n + PAD - 1) / PAD * PAD; }

inline Vec all(float x) { return x - Vec{}; }

inline Vec load(const float *p) { return *reinterpret_cast<const Vec *>(p); }

inline void store(float *p, Vec x) { *reinterpret_cast<Vec *>(p) = x; }

inline float sum(Vec x) {
    float total = 0;
    for (int i = 0; i < WIDTH; ++i) total += x[i];
    return total;
}

// Complex numbers, real and imaginary parts apart.
struct Cvec {
    Vec re, im;
};

inline Cvec operator*(Cvec a, Cvec b) { return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re}; }

inline Cvec operator+(Cvec a, Cvec b) { return {a.re + b.re, a.im + b.im}; }

inline Cvec operator-(Cvec a, Cvec b) { return {a.re - b.re, a.im - b.im}; }

// a += b c and a += conj(b) c
inline void add(Cvec &a, Cvec b, Cvec c) {
    a.re += b.re * c.re - b.im * c.im;
    a.im += b.re * c.im + b.im * c.re;
}

inline void add_conj(Cvec &a, Cvec b, Cvec c) {
    a.re += b.re * c.re + b.im * c.im;
    a.im += b.re * c.im - b.im * c.re;
}

// exp(2 pi j x), x in turns; to about 3e-7.
inline Cvec turn(Vec x) {
    const Vec magic = all(12582912.0f); // 1.5 * 2^23: adding it rounds to whole numbers
    const Vec quarter = (x * all(4.0f) + magic) - magic;
    const Vec r = (x - quarter * all(0.25f)) * all(6.28318530717958647692f); // within pi / 4
    const Vec s2 = r * r;
    const Vec sine =
        r + r * s2 * (all(-1.6666654611e-1f) + s2 * (all(8.3321608736e-3f) + s2 * all(-1.9515295891e-4f)));
    const Vec cosine = all(1.0f) - s2 * all(0.5f) +
                       s2 * s2 * (all(4.166664568298827e-2f) +
                                  s2 * (all(-1.388731625493765e-3f) + s2 * all(2.443315711809948e-5f)));
    const Ints q = __builtin_convertvector(quarter, Ints);
    const Ints swap = (q & 1) != 0;
    const Vec c = swap ? sine : cosine, s = swap ? cosine : sine;
    const Ints negative_c = ((q + 1) & 2) != 0, negative_s = (q & 2) != 0;
    return {negative_c ? -c : c, negative_s ? -s : s};
}

// Complex numbers in a row of `n` lanes, padded.
struct Row {
    float *re, *im;

    Cvec at(int i) const { return {load(re + i), load(im + i)}; }
    void clear(int lanes) const {
        for (int i = 0; i < lanes; ++i) re[i] = im[i] = 0;
    }
    void put(int i, Cvec x) const {
        store(re + i, x.re);
        store(im + i, x.im);
    }
};

// A table of rows on cache lines.
class Table {
  public:
    Table() = default;
    Table(int rows, int lanes) : rows_(rows), lanes_(padded(lanes)) {
        const std::size_t bytes = sizeof(float) * 2 * std::size_t(rows_) * std::size_t(lanes_);
        data_.reset(static_cast<float *>(std::aligned_alloc(64, (bytes + 63) / 64 * 64 + 64)));
        if (!data_) throw std::bad_alloc();
        for (std::size_t i = 0; i < bytes / sizeof(float); ++i) data_.get()[i] = 0;
    }
    Row operator[](int row) const {
        float *at = data_.get() + std::size_t(row) * 2 * std::size_t(lanes_);
        return {at, at + lanes_};
    }
    int rows() const { return rows_; }
    int lanes() const { return lanes_; }

  private:
    struct Free {
        void operator()(float *p) const { std::free(p); }
    };
    int rows_ = 0, lanes_ = 0;
    std::unique_ptr<float[], Free> data_;
};

} // namespace VARIANT
