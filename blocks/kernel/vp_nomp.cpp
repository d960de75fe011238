// The search of beamslot.dsp.path_search, one path a SIMD lane. That file is the reference: same steps, same names, and
// the equations. Single precision, but for the solve for the gains and the bookkeeping. Compiled once for every instruction
// set (VARIANT, WIDTH); `module.cpp` chooses at run time.

#include "lanes.h"
#include "search.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace VARIANT {

namespace {

using cd = std::complex<double>;
using cf = std::complex<float>;

constexpr double TAU = 6.283185307179586476925;
constexpr int STRIDE = 8;
constexpr float NOTHING = -std::numeric_limits<float>::infinity();

// exp(2 pi j d (element - middle) coordinate_k) for all elements, a path a lane.
class Line {
  public:
    Line(int elements, double spacing, int lanes)
        : elements_(elements), spacing_(spacing), coarse_((elements + STRIDE - 1) / STRIDE, lanes),
          fine_(STRIDE, lanes), response(elements, lanes) {}

    void steer(const std::vector<double> &coordinate, int paths) {
        const double middle = 0.5 * (elements_ - 1);
        for (int a = 0; a < coarse_.rows(); ++a) fill(coarse_[a], coordinate, paths, a * STRIDE - middle);
        for (int b = 0; b < std::min(STRIDE, elements_); ++b) fill(fine_[b], coordinate, paths, b);
        for (int n = 0; n < elements_; ++n)
            for (int i = 0; i < paths; i += WIDTH)
                response[n].put(i, coarse_[n / STRIDE].at(i) * fine_[n % STRIDE].at(i));
    }

  private:
    // Whole turns are taken off in double precision.
    void fill(Row row, const std::vector<double> &coordinate, int paths, double elements) {
        alignas(64) float turns[PAD];
        const double factor = spacing_ * elements;
        for (int first = 0; first < paths; first += PAD) {
            const double *at = coordinate.data() + first;
            for (int i = 0; i < PAD; ++i) {
                const double x = factor * at[i];
                turns[i] = float(x - std::nearbyint(x));
            }
            for (int i = 0; i < PAD; i += WIDTH) row.put(first + i, turn(load(turns + i)));
        }
    }

    int elements_;
    double spacing_;
    Table coarse_, fine_;

  public:
    Table response;
};

Cvec spread(cf x) { return {all(x.real()), all(x.imag())}; }

cf lane(Row row, int i) { return {row.re[i], row.im[i]}; }

// Lower triangle L with L L^H = a, in place; false where a is not positive definite.
template <class T> bool cholesky(std::vector<T> &a, int n) {
    for (int j = 0; j < n; ++j) {
        T *row = &a[std::size_t(j) * n];
        double diagonal = std::real(row[j]);
        for (int k = 0; k < j; ++k) diagonal -= std::norm(row[k]);
        if (!(diagonal > 0)) return false;
        const double root = std::sqrt(diagonal), inverse = 1 / root;
        row[j] = T(root);
        for (int i = j + 1; i < n; ++i) {
            T *below = &a[std::size_t(i) * n];
            T total = below[j];
            for (int k = 0; k < j; ++k) {
                if constexpr (std::is_same_v<T, cd>) {
                    total -= cd(below[k].real() * row[k].real() + below[k].imag() * row[k].imag(),
                                below[k].imag() * row[k].real() - below[k].real() * row[k].imag());
                } else {
                    total -= below[k] * row[k];
                }
            }
            below[j] = total * inverse;
        }
    }
    return true;
}

cd times(cd a, cd b) { return {a.real() * b.real() - a.imag() * b.imag(), a.real() * b.imag() + a.imag() * b.real()}; }

class Searcher final : public Search {
  public:
    explicit Searcher(const Problem &problem);
    void run(const cf *y, float scale, const Prior &prior, const std::function<bool()> &late, Found &found) override;
    void render(const Found &found, double scale, cf *channel) override;

  private:
    struct Peak {
        double u, v;
    };

    void take(const cf *y, float scale);
    void fit(double noise_var, int first = 0);
    void build(int first);
    void solve(double noise_var);
    void subtract();
    double noise_var();
    bool settle(int steps);
    double step(double noise_var);
    void curvature();
    void row_of(int k, Row row, int half) const;
    double pull(int along, int path, double noise_var, double &weight) const;
    void merge();
    void prune();
    void keep(const std::vector<char> &kept);
    int correlate(Peak *peaks);
    void tell_apart(int old);
    void transform();
    std::pair<float, int> largest(const std::vector<int> &taken) const;
    void weigh(Found &found);
    double found_error(const Found &found, double noise_var);
    double missed_power(double found, double noise_var) const;
    void evidence(Found &found, const std::vector<double> &volume);

    const Problem p_;
    int columns_ = 0, width_ = 0; // active columns; lanes of the grid of v
    int length_ = 0, bits_ = 0;   // of the transform; 0 bits where it is a product
    std::vector<int> column_, table_, first_; // active columns by table; where each table begins
    std::vector<int> slot_, begin_;           // lane of each active column, tables padded to whole vectors
    int lanes_of_columns_ = 0;
    std::vector<float> offset_;
    std::vector<int> idle_;
    std::vector<cf> rotation_, turned_;
    std::vector<cf> weight_, slope_; // (table, chain, antenna), the latter times j 2 pi d (z - middle) cell_v
    Table grid_, work_, twiddle_, product_, unseen_, score_, toll_;
    std::vector<char> seen_;
    std::vector<float> top_; // of each row of scores
    std::vector<int> place_;
    float factor_u_; // 2 pi d cell_u
    double mean_energy_ = 0;

    std::vector<cf> y_, residual_; // (active column, chain)
    int paths_ = 0, known_ = 0;
    bool stale_ = true;
    std::vector<double> u_, v_, prior_u_, prior_v_, precision_u_, precision_v_, power_, log_odds_;
    std::vector<int> origin_;
    Line line_y_, line_z_;
    Table d_, dv_, moments_, aa_, ua_, uu_, uv_, vu_, va_, av_, vv_, matched_, white_, across_, sums_, answer_, half_;
    std::vector<cd> factor_, inverse_, gain_;
    std::vector<double> small_, h_, descent_, scale_;
};

Searcher::Searcher(const Problem &problem)
    : p_(problem), line_y_(problem.n_y, problem.spacing_y, problem.max_paths),
      line_z_(problem.n_z(), problem.spacing_z, problem.max_paths) {
    const int lanes = p_.max_paths, entries = p_.tables * p_.chains;
    first_.assign(p_.tables + 1, 0);
    for (int g = 0; g < p_.tables; ++g) {
        for (int n = 0; n < p_.n_y; ++n)
            if (p_.which[n] == g) column_.push_back(n), table_.push_back(g);
        first_[g + 1] = int(column_.size());
    }
    columns_ = int(column_.size());
    begin_.assign(1, 0);
    for (int g = 0; g < p_.tables; ++g) {
        for (int c = first_[g]; c < first_[g + 1]; ++c) slot_.push_back(begin_[g] + c - first_[g]);
        begin_.push_back(begin_[g] + (first_[g + 1] - first_[g] + WIDTH - 1) / WIDTH * WIDTH);
    }
    lanes_of_columns_ = begin_.back();
    across_ = Table(1, lanes_of_columns_);
    sums_ = Table(p_.chains, lanes_of_columns_);
    for (int n : column_) offset_.push_back(float(n - 0.5 * (p_.n_y - 1)));
    factor_u_ = float(TAU * p_.spacing_y * p_.cell_u);
    for (int i = 0; i < entries * p_.antennas; ++i) {
        const int z = i % (p_.chains * p_.antennas);
        weight_.push_back(cf(p_.weights[i]));
        slope_.push_back(cf(p_.weights[i] * cd(0, TAU * p_.spacing_z * (z - 0.5 * (p_.n_z() - 1)) * p_.cell_v)));
    }
    y_.resize(std::size_t(columns_) * p_.chains);
    residual_ = y_;
    for (Table *t : {&d_, &dv_}) *t = Table(entries, lanes);
    moments_ = Table(3, lanes);
    for (Table *t : {&aa_, &ua_, &uu_, &uv_, &vu_, &va_, &av_, &vv_}) *t = Table(lanes, lanes);
    matched_ = Table(3, lanes);
    white_ = Table(lanes, 2 * padded(lanes));
    answer_ = Table(lanes, 2 * padded(lanes));
    half_ = Table(3 * lanes, 2 * padded(lanes));

    // The correlation: responses on the grid of v, scaled so that the squared magnitude is the score.
    const int rows = int(p_.grid_v.size());
    width_ = padded(rows);
    std::vector<cd> response(std::size_t(rows) * entries);
    std::vector<double> energy(rows, 0.0);
    double largest = 0;
    for (int r = 0; r < rows; ++r) {
        for (int i = 0; i < entries; ++i) {
            cd total = 0;
            for (int m = 0; m < p_.antennas; ++m) {
                const int z = i % p_.chains * p_.antennas + m;
                total += p_.weights[std::size_t(i) * p_.antennas + m] *
                         std::polar(1.0, TAU * p_.spacing_z * (z - 0.5 * (p_.n_z() - 1)) * p_.grid_v[r]);
            }
            response[std::size_t(r) * entries + i] = total;
            energy[r] += std::norm(total) * (first_[i / p_.chains + 1] - first_[i / p_.chains]);
        }
        largest = std::max(largest, energy[r]);
    }
    for (double e : energy) mean_energy_ += std::max(e, p_.faintest * largest) / rows;
    grid_ = Table(entries, rows);
    for (int r = 0; r < rows; ++r)
        for (int i = 0; i < entries; ++i) {
            const cd x = response[std::size_t(r) * entries + i] / std::sqrt(std::max(energy[r], p_.faintest * largest));
            grid_[i].re[r] = float(x.real());
            grid_[i].im[r] = float(x.imag());
        }
    length_ = 2 * p_.n_y;
    while ((1 << bits_) < length_) ++bits_;
    if ((1 << bits_) != length_) bits_ = 0;
    const int points = int(p_.grid_u.size());
    turned_.resize(p_.chains);
    for (int n = 0; n < p_.n_y; ++n)
        if (p_.which[n] < 0) idle_.push_back(n);
    for (int n : column_) { // in front of a transform the beginning of the grid is a rotation of the columns
        const double x = bits_ ? -p_.spacing_y * p_.grid_u[0] * n : 0.0;
        rotation_.push_back(cf(std::polar(1.0, TAU * (x - std::nearbyint(x)))));
    }
    work_ = Table(bits_ ? length_ : p_.n_y + points, rows);
    // Steps of 1 / length in frequency; the grid begins at grid_u[0].
    product_ = Table(bits_ ? 1 : points, p_.n_y);
    twiddle_ = Table(1, length_);
    for (int n = 0; n < length_; ++n) {
        const cd x = std::polar(1.0, -TAU * n / length_);
        twiddle_[0].re[n] = float(x.real()), twiddle_[0].im[n] = float(x.imag());
    }
    if (!bits_)
        for (int i = 0; i < points; ++i)
            for (int n = 0; n < p_.n_y; ++n) {
                const cd x = std::polar(1.0, -TAU * p_.spacing_y * n * p_.grid_u[i]);
                product_[i].re[n] = float(x.real()), product_[i].im[n] = float(x.imag());
            }
    for (int i = 0; i < points; ++i) {
        int place = i % length_;
        if (bits_) {
            int reversed = 0;
            for (int b = 0; b < bits_; ++b) reversed |= (place >> b & 1) << (bits_ - 1 - b);
            place = reversed;
        } else {
            place = p_.n_y + i;
        }
        place_.push_back(place);
    }
    unseen_ = Table(points, rows);
    score_ = Table(points, rows);
    toll_ = Table(1, rows);
    for (int r = 0; r < width_; ++r) // lanes beyond the grid never win
        toll_[0].re[r] = r < rows ? float(std::log(largest / std::max(energy[r], p_.faintest * largest))) : 0.0f;
    seen_.assign(points, 1);
    top_.assign(points, 0.0f);
    for (int i = 0; i < points; ++i)
        for (int r = 0; r < width_; ++r) {
            const bool visible = r < rows && p_.grid_u[i] * p_.grid_u[i] + p_.grid_v[r] * p_.grid_v[r] <= 1;
            unseen_[i].re[r] = visible ? 1.0f : 0.0f;
            if (r < rows && !visible) seen_[i] = 0;
        }
}

void Searcher::take(const cf *y, float scale) {
    const float inverse = scale > 0 ? 1 / scale : 1;
    for (int c = 0; c < columns_; ++c)
        for (int t = 0; t < p_.chains; ++t) y_[c * p_.chains + t] = inverse * y[column_[c] * p_.chains + t];
    residual_ = y_;
}

// Atoms, their slopes, and all products of them with each other and with y; paths before `first` have not moved.
void Searcher::build(int first) {
    const int fresh = first / WIDTH * WIDTH;
    line_y_.steer(u_, paths_);
    line_z_.steer(v_, paths_);
    const Table &e = line_y_.response, &z = line_z_.response;
    const int chains = p_.chains, antennas = p_.antennas, entries = p_.tables * chains;
    for (int i = fresh; i < paths_; i += WIDTH) {
        for (int entry = 0; entry < entries; ++entry) {
            Cvec d{}, dv{};
            const cf *w = &weight_[std::size_t(entry) * antennas], *s = &slope_[std::size_t(entry) * antennas];
            const int low = entry % chains * antennas;
            for (int m = 0; m < antennas; ++m) {
                const Cvec at = z[low + m].at(i);
                add(d, spread(w[m]), at);
                add(dv, spread(s[m]), at);
            }
            d_[entry].put(i, d);
            dv_[entry].put(i, dv);
        }
        Cvec b{}, bu{}, bv{};
        for (int c = 0; c < columns_; ++c) {
            Cvec q{}, qv{};
            for (int t = 0; t < chains; ++t) {
                const Cvec y = spread(y_[c * chains + t]);
                add_conj(q, d_[table_[c] * chains + t].at(i), y);
                add_conj(qv, dv_[table_[c] * chains + t].at(i), y);
            }
            const Cvec column = e[column_[c]].at(i);
            Cvec own{};
            add_conj(own, column, q);
            b = b + own;
            bu.re += all(offset_[c]) * own.re;
            bu.im += all(offset_[c]) * own.im;
            add_conj(bv, column, qv);
        }
        matched_[0].put(i, b);
        matched_[1].put(i, {all(factor_u_) * bu.im, all(-factor_u_) * bu.re}); // times -j
        matched_[2].put(i, bv);
    }
    for (int k = 0; k < paths_; ++k) {
        // Lanes behind those of k follow from the rows of their paths.
        for (int i = k < first ? fresh : 0; i <= k / WIDTH * WIDTH; i += WIDTH) {
            Cvec aa{}, ua{}, uu{}, uv{}, va{}, vv{}, av{}, vu{};
            for (int g = 0; g < p_.tables; ++g) {
                Cvec m0{}, m1{}, m2{}, p00{}, p01{}, p10{}, p11{};
                for (int c = first_[g]; c < first_[g + 1]; ++c) {
                    Cvec own{};
                    add_conj(own, spread(lane(e[column_[c]], k)), e[column_[c]].at(i));
                    const Vec offset = all(offset_[c]);
                    m0 = m0 + own;
                    const Cvec moved{offset * own.re, offset * own.im};
                    m1 = m1 + moved;
                    m2.re += offset * moved.re;
                    m2.im += offset * moved.im;
                }
                for (int t = g * chains; t < (g + 1) * chains; ++t) {
                    const Cvec dk = spread(lane(d_[t], k)), dvk = spread(lane(dv_[t], k));
                    const Cvec dl = d_[t].at(i), dvl = dv_[t].at(i);
                    add_conj(p00, dk, dl);
                    add_conj(p01, dk, dvl);
                    add_conj(p10, dvk, dl);
                    add_conj(p11, dvk, dvl);
                }
                add(aa, m0, p00);
                add(ua, m1, p00);
                add(uu, m2, p00);
                add(uv, m1, p01);
                add(vu, m1, p10);
                add(va, m0, p10);
                add(av, m0, p01);
                add(vv, m0, p11);
            }
            const Vec f = all(factor_u_);
            aa_[k].put(i, aa);
            ua_[k].put(i, {f * ua.im, -f * ua.re});
            uu_[k].put(i, {f * f * uu.re, f * f * uu.im});
            uv_[k].put(i, {f * uv.im, -f * uv.re});
            vu_[k].put(i, {-f * vu.im, f * vu.re});
            va_[k].put(i, va);
            av_[k].put(i, av);
            vv_[k].put(i, vv);
        }
    }
    auto mirror = [](const Table &to, int k, int l, const Table &from, float sign) {
        to[k].re[l] = sign * from[l].re[k];
        to[k].im[l] = -sign * from[l].im[k];
    };
    for (int l = first; l < paths_; ++l)
        for (int k = 0; k < l / WIDTH * WIDTH; ++k) {
            mirror(aa_, k, l, aa_, 1);
            mirror(ua_, k, l, ua_, -1);
            mirror(uu_, k, l, uu_, 1);
            mirror(uv_, k, l, vu_, 1);
            mirror(va_, k, l, av_, 1);
            mirror(vv_, k, l, vv_, 1);
        }
}

// Gains by least squares, those with a prior power by ridge regression.
void Searcher::solve(double noise_var) {
    const int n = paths_;
    factor_.assign(std::size_t(n) * n, cd(0));
    double trace = 0;
    for (int k = 0; k < n; ++k) trace += aa_[k].re[k];
    const double floor = p_.rank * std::max(trace / std::max(n, 1), 1e-30);
    for (int k = 0; k < n; ++k)
        for (int l = 0; l <= k; ++l) factor_[std::size_t(k) * n + l] = cd(lane(aa_[k], l));
    for (int k = 0; k < n; ++k) {
        // The power of a new path is at most what explains all of y alone.
        const double ridge = noise_var / (k < known_ ? power_[k] : p_.rows / mean_energy_);
        cd &diagonal = factor_[std::size_t(k) * n + k];
        diagonal = diagonal.real() + ridge + floor;
    }
    for (double more = 1e-6 * trace; !cholesky(factor_, n); more *= 10) { // paths on top of each other
        for (int k = 0; k < n; ++k) {
            for (int l = 0; l < k; ++l) factor_[std::size_t(k) * n + l] = cd(lane(aa_[k], l));
            factor_[std::size_t(k) * n + k] = double(aa_[k].re[k]) + more + floor;
        }
    }
    gain_.assign(n, cd(0));
    for (int k = 0; k < n; ++k) {
        cd total(lane(matched_[0], k));
        for (int l = 0; l < k; ++l) total -= times(factor_[std::size_t(k) * n + l], gain_[l]);
        gain_[k] = total / factor_[std::size_t(k) * n + k].real();
    }
    for (int k = n - 1; k >= 0; --k) {
        cd total = gain_[k];
        for (int l = k + 1; l < n; ++l) total -= times(std::conj(factor_[std::size_t(l) * n + k]), gain_[l]);
        gain_[k] = total / factor_[std::size_t(k) * n + k].real();
    }
}

void Searcher::fit(double noise_var, int first) {
    build(first);
    solve(noise_var);
    stale_ = true;
}

// residual = y - X a, with columns in the lanes: those of a table follow on each other
void Searcher::subtract() {
    if (!stale_) return;
    stale_ = false;
    const Table &e = line_y_.response;
    const int chains = p_.chains;
    std::vector<cf> coefficient(chains);
    for (int t = 0; t < chains; ++t) sums_[t].clear(lanes_of_columns_);
    for (int k = 0; k < paths_; ++k) {
        Row across = across_[0];
        for (int c = 0; c < columns_; ++c) across.re[slot_[c]] = e[column_[c]].re[k], across.im[slot_[c]] = e[column_[c]].im[k];
        const cf gain(gain_[k]);
        for (int g = 0; g < p_.tables; ++g) {
            for (int t = 0; t < chains; ++t) {
                const cf d = lane(d_[g * chains + t], k);
                coefficient[t] = cf(gain.real() * d.real() - gain.imag() * d.imag(), gain.real() * d.imag() + gain.imag() * d.real());
            }
            for (int i = begin_[g]; i < begin_[g + 1]; i += WIDTH) {
                const Cvec column = across.at(i);
                for (int t = 0; t < chains; ++t) {
                    Cvec total = sums_[t].at(i);
                    add(total, spread(coefficient[t]), column);
                    sums_[t].put(i, total);
                }
            }
        }
    }
    for (int c = 0; c < columns_; ++c)
        for (int t = 0; t < chains; ++t) residual_[c * chains + t] = y_[c * chains + t] - lane(sums_[t], slot_[c]);
}

double Searcher::noise_var() {
    subtract();
    double energy = 0;
    for (cf x : residual_) energy += double(std::norm(x));
    return std::max(energy / std::max(p_.rows - 2.0 * paths_, 1.0), p_.silence);
}

double Searcher::pull(int along, int path, double noise_var, double &weight) const {
    weight = 0;
    if (path >= known_) return 0;
    const double cell = along ? p_.cell_v : p_.cell_u;
    const double expected = along ? prior_v_[path] : prior_u_[path], at = along ? v_[path] : u_[path];
    weight = (along ? precision_v_[path] : precision_u_[path]) * noise_var / 2;
    return weight * (expected - at) / cell;
}

// conj(slope_i^H xi_k) gain_i of all directions i, u first
void Searcher::row_of(int k, Row row, int half) const {
    row.clear(2 * half);
    for (int i = 0; i < paths_; ++i) {
        const cf g(gain_[i]), u = std::conj(lane(ua_[i], k)), v = std::conj(lane(va_[i], k));
        row.re[i] = u.real() * g.real() - u.imag() * g.imag();
        row.im[i] = u.real() * g.imag() + u.imag() * g.real();
        row.re[half + i] = v.real() * g.real() - v.imag() * g.imag();
        row.im[half + i] = v.real() * g.imag() + v.imag() * g.real();
    }
}

// The Gauss-Newton matrix of the directions, gains eliminated, into h_ (2 K, 2 K) and the descent; u first, then v.
void Searcher::curvature() {
    const int n = paths_, half = padded(n), lanes = 2 * half;
    // white_ = L^-1 (cross times gains)^H, lanes over both kinds of slopes
    for (int k = 0; k < n; ++k) row_of(k, white_[k], half);
    // Before it is whitened: descent = Re conj(g) (matched - cross a).
    descent_.assign(2 * n, 0.0);
    for (int along = 0; along < 2; ++along)
        for (int k = 0; k < n; ++k) {
            const Table &cross = along ? va_ : ua_;
            cd left(lane(matched_[1 + along], k));
            for (int l = 0; l < n; ++l) left -= times(cd(lane(cross[k], l)), gain_[l]);
            descent_[along * n + k] = gain_[k].real() * left.real() + gain_[k].imag() * left.imag();
        }
    for (int k = 0; k < n; ++k) {
        Row row = white_[k];
        const float inverse = float(1 / factor_[std::size_t(k) * n + k].real());
        for (int i = 0; i < lanes; i += WIDTH) {
            Cvec x = row.at(i);
            for (int l = 0; l < k; ++l) {
                const cd f = factor_[std::size_t(k) * n + l];
                x = x - spread(cf(f)) * white_[l].at(i);
            }
            row.put(i, {all(inverse) * x.re, all(inverse) * x.im});
        }
    }
    h_.assign(std::size_t(4) * n * n, 0.0);
    alignas(64) float line[2 * 64];
    for (int r = 0; r < 2 * n; ++r) {
        const int path = r % n, at = r < n ? path : half + path;
        for (int i = 0; i < lanes; i += WIDTH) {
            Vec total{};
            for (int k = 0; k < n; ++k) {
                const Row row = white_[k];
                total += all(row.re[at]) * load(row.re + i) + all(row.im[at]) * load(row.im + i);
            }
            store(line + i, total);
        }
        const cf g = std::conj(cf(gain_[path]));
        for (int s = 0; s <= r; ++s) {
            const int other = s % n;
            cf product;
            if (r < n) product = lane(uu_[path], other);
            else if (s < n) product = std::conj(lane(uv_[other], path));
            else product = lane(vv_[path], other);
            const cf o = cf(gain_[other]);
            const cf gg(g.real() * o.real() - g.imag() * o.imag(), g.real() * o.imag() + g.imag() * o.real());
            const float own = gg.real() * product.real() - gg.imag() * product.imag();
            h_[std::size_t(r) * 2 * n + s] = own - line[s < n ? other : half + other];
        }
    }
}

// One Gauss-Newton step of all directions; returns the longest move in cells.
double Searcher::step(double noise_var) {
    const int n = paths_, m = 2 * n;
    curvature();
    double largest = 0;
    for (int i = 0; i < m; ++i) largest = std::max(largest, h_[std::size_t(i) * m + i]);
    small_.resize(std::size_t(m) * m);
    scale_.resize(m);
    for (int i = 0; i < m; ++i) {
        double weight;
        descent_[i] += pull(i >= n, i % n, noise_var, weight);
        const double own = h_[std::size_t(i) * m + i];
        h_[std::size_t(i) * m + i] = own + p_.damping * own + p_.rank * std::max(largest, 1e-30) + weight;
        scale_[i] = 1 / std::sqrt(std::max(h_[std::size_t(i) * m + i], 1e-300));
    }
    for (int i = 0; i < m; ++i)
        for (int j = 0; j <= i; ++j) small_[std::size_t(i) * m + j] = h_[std::size_t(i) * m + j] * scale_[i] * scale_[j];
    if (!cholesky(small_, m)) { // rounding; a plain scaled gradient still descends
        std::fill(small_.begin(), small_.end(), 0.0);
        for (int i = 0; i < m; ++i) small_[std::size_t(i) * m + i] = std::sqrt(double(m));
    }
    for (int i = 0; i < m; ++i) {
        double total = descent_[i] * scale_[i];
        for (int j = 0; j < i; ++j) total -= small_[std::size_t(i) * m + j] * descent_[j];
        descent_[i] = total / small_[std::size_t(i) * m + i];
    }
    for (int i = m - 1; i >= 0; --i) {
        double total = descent_[i];
        for (int j = i + 1; j < m; ++j) total -= small_[std::size_t(j) * m + i] * descent_[j];
        descent_[i] = total / small_[std::size_t(i) * m + i];
    }
    double longest = 0;
    for (int k = 0; k < n; ++k) {
        const double du = std::clamp(descent_[k] * scale_[k], -p_.longest_step, p_.longest_step);
        const double dv = std::clamp(descent_[n + k] * scale_[n + k], -p_.longest_step, p_.longest_step);
        longest = std::max({longest, std::abs(du), std::abs(dv)});
        u_[k] = std::clamp(u_[k] + du * p_.cell_u, -1.0, 1.0);
        v_[k] = std::clamp(v_[k] + dv * p_.cell_v, p_.low, p_.high);
    }
    fit(noise_var);
    return longest;
}

bool Searcher::settle(int steps) {
    if (!paths_) return true;
    bool settled = false;
    for (int i = 0; i < steps && !settled; ++i) settled = step(known_ ? noise_var() : 0.0) < p_.settled;
    return settled;
}

void Searcher::keep(const std::vector<char> &kept) {
    if (std::all_of(kept.begin(), kept.end(), [](char k) { return k; })) return;
    const double before = noise_var();
    int to = 0, known = 0;
    for (int k = 0; k < paths_; ++k) {
        if (!kept[k]) continue;
        if (k < known_) {
            for (auto *list : {&prior_u_, &prior_v_, &precision_u_, &precision_v_, &power_, &log_odds_}) (*list)[to] = (*list)[k];
            ++known;
        }
        u_[to] = u_[k], v_[to] = v_[k], origin_[to] = origin_[k];
        ++to;
    }
    paths_ = to, known_ = known;
    fit(before);
}

void Searcher::merge() {
    std::vector<char> kept(paths_, 1);
    for (int k = 0; k < paths_; ++k)
        for (int l = 0; l < paths_; ++l)
            if (std::abs(u_[k] - u_[l]) < p_.merge * p_.cell_u && std::abs(v_[k] - v_[l]) < p_.merge * p_.cell_v &&
                std::norm(gain_[k]) < std::norm(gain_[l]))
                kept[k] = 0;
    keep(kept);
}

// Leaves out new paths that look like another new one, an alias of it, or like an old one that has not settled yet.
void Searcher::tell_apart(int old) {
    std::vector<char> kept(paths_, 1);
    for (int k = old; k < paths_; ++k)
        for (int l = 0; l < k; ++l) {
            const double own = std::max(double(aa_[k].re[k]) * aa_[l].re[l], 1e-30);
            if (std::norm(cd(lane(aa_[k], l))) / own > (l < old ? p_.neighbour : p_.twin)) kept[k] = 0;
        }
    keep(kept);
}

// The diagonal of (L L^H)^-1 and, if asked, all of it.
void invert(const std::vector<cd> &factor, int n, std::vector<cd> &inverse) {
    std::vector<cd> root(std::size_t(n) * n, cd(0)); // L^-1
    for (int j = 0; j < n; ++j) {
        root[std::size_t(j) * n + j] = 1 / factor[std::size_t(j) * n + j].real();
        for (int i = j + 1; i < n; ++i) {
            cd total = 0;
            for (int k = j; k < i; ++k) total -= times(factor[std::size_t(i) * n + k], root[std::size_t(k) * n + j]);
            root[std::size_t(i) * n + j] = total / factor[std::size_t(i) * n + i].real();
        }
    }
    inverse.assign(std::size_t(n) * n, cd(0));
    for (int i = 0; i < n; ++i)
        for (int j = 0; j <= i; ++j) {
            cd total = 0;
            for (int k = i; k < n; ++k)
                total += times(std::conj(root[std::size_t(k) * n + i]), root[std::size_t(k) * n + j]);
            inverse[std::size_t(i) * n + j] = total;
            inverse[std::size_t(j) * n + i] = std::conj(total);
        }
}

void Searcher::prune() {
    while (paths_) {
        invert(factor_, paths_, inverse_);
        const double noise = noise_var();
        int weakest = 0;
        double least = std::numeric_limits<double>::infinity();
        for (int k = known_; k < paths_; ++k) {
            const double strength = std::norm(gain_[k]) / (noise * inverse_[std::size_t(k) * paths_ + k].real());
            if (strength < least) least = strength, weakest = k;
        }
        if (least >= p_.threshold) return;
        std::vector<char> kept(paths_, 1);
        kept[weakest] = 0;
        keep(kept);
    }
}

// Fourier transform over the columns, of all grid points of v at once; decimation in frequency, so out of order.
void Searcher::transform() {
    const Row twiddle = twiddle_[0];
    const int half = length_ / 2;
    for (int n = 0; n < half; ++n) { // the upper half is zero
        const Cvec w = spread(lane(twiddle, n));
        for (int i = 0; i < width_; i += WIDTH) work_[half + n].put(i, w * work_[n].at(i));
    }
    for (int span = half / 2, stride = 2; span >= 1; span /= 2, stride *= 2)
        for (int start = 0; start < length_; start += 2 * span)
            for (int n = 0; n < span; ++n) {
                const Cvec w = spread(lane(twiddle, n * stride));
                const Row low = work_[start + n], high = work_[start + n + span];
                for (int i = 0; i < width_; i += WIDTH) {
                    const Cvec a = low.at(i), b = high.at(i);
                    low.put(i, a + b);
                    high.put(i, (a - b) * w);
                }
            }
}

// The largest score, apart from what lies around the peaks that are taken; where it is.
std::pair<float, int> Searcher::largest(const std::vector<int> &taken) const {
    const int points = int(p_.grid_u.size()), rows = int(p_.grid_v.size());
    float best = NOTHING;
    int where = 0;
    for (int i = 0; i < points; ++i) {
        if (top_[i] <= best) continue;
        const float *score = score_[i].re;
        auto free = [&](int r) {
            for (std::size_t t = 0; t < taken.size(); t += 2) {
                const int away = ((i - taken[t + 1] + points / 2) % points + points) % points - points / 2;
                if (std::abs(away) <= p_.apart && std::abs(r - taken[t]) <= p_.apart) return false;
            }
            return true;
        };
        for (int r = 0; r < rows; ++r)
            if (score[r] > best && free(r)) best = score[r], where = i * rows + r;
    }
    return {best, where};
}

double vertex(double before, double at, double after) {
    const double curvature = before - 2 * at + after;
    return curvature < 0 ? std::clamp(0.5 * (before - after) / curvature, -0.5, 0.5) : 0.0;
}

int Searcher::correlate(Peak *peaks) {
    subtract();
    double energy = 0;
    for (cf x : residual_) energy += double(std::norm(x));
    const double left = std::max(p_.rows - 2.0 * paths_, 1.0);
    const float toll = float(2 * energy / left);
    const int chains = p_.chains, points = int(p_.grid_u.size()), rows = int(p_.grid_v.size());
    for (int n : idle_) work_[n].clear(width_);
    for (int c = 0; c < columns_; ++c) {
        const int n = column_[c];
        const cf turned = rotation_[c];
        for (int t = 0; t < chains; ++t) {
            const cf r = residual_[c * chains + t];
            turned_[t] = cf(turned.real() * r.real() - turned.imag() * r.imag(), turned.real() * r.imag() + turned.imag() * r.real());
        }
        const Row out = work_[n];
        for (int i = 0; i < width_; i += WIDTH) {
            Cvec total{};
            for (int t = 0; t < chains; ++t) add_conj(total, grid_[table_[c] * chains + t].at(i), spread(turned_[t]));
            out.put(i, total);
        }
    }
    if (bits_) {
        transform();
    } else {
        for (int i = 0; i < points; ++i)
            for (int r = 0; r < width_; r += WIDTH) {
                Cvec total{};
                for (int n = 0; n < p_.n_y; ++n) add(total, spread(lane(product_[i], n)), work_[n].at(r));
                work_[p_.n_y + i].put(r, total);
            }
    }
    for (int i = 0; i < points; ++i) {
        const Row row = work_[place_[i]];
        Vec top = all(NOTHING);
        for (int r = 0; r < width_; r += WIDTH) {
            const Cvec x = row.at(r);
            Vec score = x.re * x.re + x.im * x.im;
            if (!seen_[i]) score *= load(unseen_[i].re + r);
            score -= all(toll) * load(toll_[0].re + r);
            store(score_[i].re + r, score);
            top = score > top ? score : top;
        }
        top_[i] = top[0];
        for (int r = 1; r < WIDTH; ++r) top_[i] = std::max(top_[i], top[r]);
    }
    int count = 0;
    std::vector<int> taken; // rows and columns of the peaks before
    double first = 0, least = 0;
    for (; count < p_.peaks; ++count) {
        const auto [score, where] = largest(taken);
        if (!count) {
            first = score;
            least = p_.threshold * std::max((energy - first) / std::max(left - 2, 1.0), p_.silence);
        }
        if (!(score > std::max(least, count ? p_.next_peak * first : 0.0))) break;
        const int column = where / rows, row = where % rows;
        taken.push_back(row), taken.push_back(column);
        auto at = [&](int r, int c) { return double(score_[(c + points) % points].re[r]); };
        const double mid = at(row, column);
        const double along_u = vertex(at(row, column - 1), mid, at(row, column + 1));
        const double along_v = row > 0 && row < rows - 1 ? vertex(at(row - 1, column), mid, at(row + 1, column)) : 0.0;
        const double step_u = points > 1 ? p_.grid_u[1] - p_.grid_u[0] : 0.0;
        const double step_v = rows > 1 ? (p_.grid_v[rows - 1] - p_.grid_v[0]) / (rows - 1) : 0.0;
        peaks[count] = {std::clamp(p_.grid_u[column] + along_u * step_u, -1.0, 1.0), p_.grid_v[row] + along_v * step_v};
    }
    return count;
}

void Searcher::evidence(Found &found, const std::vector<double> &volume) {
    const int n = paths_;
    double strongest = 0, least = std::numeric_limits<double>::infinity();
    for (int k = 0; k < n; ++k) {
        strongest = std::max({strongest, std::norm(gain_[k]), found.variance[k]});
        least = std::min(least, found.variance[k]);
    }
    const double low = std::log(0.1 * least), high = std::log(2 * strongest);
    for (int k = 0; k < n; ++k) {
        const double power = std::norm(gain_[k]), variance = found.variance[k];
        double fits[32], best = -std::numeric_limits<double>::infinity(), powers[32];
        for (int i = 0; i < p_.powers; ++i) {
            powers[i] = std::exp(low + (high - low) * i / (p_.powers - 1));
            const double both = variance + powers[i];
            fits[i] = std::log(variance / both) + power * (1 / variance - 1 / both);
            best = std::max(best, fits[i]);
        }
        double total = 0, shrink = 0;
        for (int i = 0; i < p_.powers; ++i) {
            const double share = std::exp(fits[i] - best);
            total += share;
            shrink += share * powers[i] / (powers[i] + p_.freedom * variance);
        }
        double odds = std::log(p_.expected_paths / p_.cells) + volume[k] + std::log(total / p_.powers) + best;
        if (k < known_) odds = log_odds_[k] + std::log(variance / power_[k]) + power / variance;
        found.inclusion[k] = odds > 0 ? 1 / (1 + std::exp(-odds)) : std::exp(odds) / (1 + std::exp(odds));
        found.weight[k] = k < known_ ? 1.0 : shrink / total; // times the inclusion later
    }
}

void Searcher::weigh(Found &found) {
    const int n = paths_, m = 2 * n;
    const double noise = noise_var();
    found.paths = n;
    found.noise_var = noise;
    for (auto *list : {&found.u, &found.v, &found.weight, &found.inclusion, &found.variance, &found.spread_u, &found.spread_v})
        list->assign(n, 0.0);
    std::copy(u_.begin(), u_.begin() + n, found.u.begin());
    std::copy(v_.begin(), v_.begin() + n, found.v.begin());
    found.gain = gain_;
    found.origin.assign(origin_.begin(), origin_.begin() + n);
    if (n) {
        invert(factor_, n, inverse_);
        curvature();
    }
    std::vector<double> volume(n);
    double largest = 0;
    for (int i = 0; i < m; ++i) largest = std::max(largest, h_[std::size_t(i) * m + i]);
    for (int k = 0; k < n; ++k) {
        found.variance[k] = noise * inverse_[std::size_t(k) * n + k].real();
        const double uu = h_[std::size_t(k) * m + k], vv = h_[std::size_t(n + k) * m + n + k];
        const double uv = h_[std::size_t(n + k) * m + k];
        const double det = uu * vv - uv * uv;
        volume[k] = std::min(std::log(TAU / 2 * noise) - 0.5 * std::log(std::max(det, 1e-30)), 0.0);
    }
    // spread: the covariance of the directions, into small_
    small_.assign(std::size_t(m) * m, 0.0);
    scale_.resize(m);
    for (int i = 0; i < m; ++i) {
        double weight;
        pull(i >= n, i % n, noise, weight);
        h_[std::size_t(i) * m + i] += weight + p_.rank * std::max(largest, 1e-30);
        scale_[i] = 1 / std::sqrt(std::max(h_[std::size_t(i) * m + i], 1e-300));
    }
    std::vector<double> root(std::size_t(m) * m, 0.0);
    for (int i = 0; i < m; ++i)
        for (int j = 0; j <= i; ++j) root[std::size_t(i) * m + j] = h_[std::size_t(i) * m + j] * scale_[i] * scale_[j];
    if (n && !cholesky(root, m)) {
        std::fill(root.begin(), root.end(), 0.0);
        for (int i = 0; i < m; ++i) root[std::size_t(i) * m + i] = 1;
    }
    std::vector<double> lower(std::size_t(m) * m, 0.0);
    for (int j = 0; j < m; ++j) {
        lower[std::size_t(j) * m + j] = 1 / root[std::size_t(j) * m + j];
        for (int i = j + 1; i < m; ++i) {
            double total = 0;
            for (int k = j; k < i; ++k) total -= root[std::size_t(i) * m + k] * lower[std::size_t(k) * m + j];
            lower[std::size_t(i) * m + j] = total / root[std::size_t(i) * m + i];
        }
    }
    for (int i = 0; i < m; ++i)
        for (int j = 0; j <= i; ++j) {
            double total = 0;
            for (int k = i; k < m; ++k) total += lower[std::size_t(k) * m + i] * lower[std::size_t(k) * m + j];
            total *= noise / 2 * scale_[i] * scale_[j];
            small_[std::size_t(i) * m + j] = small_[std::size_t(j) * m + i] = total;
        }
    for (int k = 0; k < n; ++k) {
        found.spread_u[k] = small_[std::size_t(k) * m + k];
        found.spread_v[k] = small_[std::size_t(n + k) * m + n + k];
    }
    if (n) evidence(found, volume);
    double certain = 0;
    for (int k = 0; k < n; ++k) certain += found.inclusion[k];
    found.error_var = n ? found_error(found, noise) : 0.0;
    for (int k = 0; k < n; ++k) found.weight[k] *= found.inclusion[k];
    found.error_var += missed_power(certain, noise);
}

double Searcher::missed_power(double found, double noise) const {
    const double scale = p_.path_power * p_.rows / mean_energy_;
    const double limit = p_.hidden * p_.threshold * noise / mean_energy_;
    const double seen = scale / (scale + limit);
    const double paths = (p_.certainty + found) / (p_.certainty / p_.expected_paths + seen);
    const double least = limit / scale;
    return paths * scale * (std::log1p(least) - least / (1 + least));
}

// Products of the responses of a line and of their slopes, (order, order) of each pair: 00, 01, 10, 11.
void products(const Table &response, int elements, double factor, int paths, std::vector<cd> *out) {
    for (int order = 0; order < 4; ++order) out[order].assign(std::size_t(paths) * paths, cd(0));
    for (int k = 0; k < paths; ++k)
        for (int i = 0; i < paths; i += WIDTH) {
            Cvec m0{}, m1{}, m2{};
            for (int n = 0; n < elements; ++n) {
                const float offset = float(n - 0.5 * (elements - 1));
                Cvec own{};
                add_conj(own, spread(lane(response[n], k)), response[n].at(i));
                m0 = m0 + own;
                m1.re += all(offset) * own.re, m1.im += all(offset) * own.im;
                m2.re += all(offset * offset) * own.re, m2.im += all(offset * offset) * own.im;
            }
            for (int j = 0; j < WIDTH && i + j < paths; ++j) {
                const std::size_t at = std::size_t(k) * paths + i + j;
                out[0][at] = cd(m0.re[j], m0.im[j]);
                out[1][at] = cd(0, factor) * cd(m1.re[j], m1.im[j]);  // the slope is the second
                out[2][at] = cd(0, -factor) * cd(m1.re[j], m1.im[j]); // the slope is the first
                out[3][at] = factor * factor * cd(m2.re[j], m2.im[j]);
            }
        }
}

double Searcher::found_error(const Found &found, double noise) {
    const int n = paths_, m = 2 * n;
    std::vector<cd> y[4], z[4];
    products(line_y_.response, p_.n_y, TAU * p_.spacing_y * p_.cell_u, n, y);
    products(line_z_.response, p_.n_z(), TAU * p_.spacing_z * p_.cell_v, n, z);
    double error = 0;
    for (int k = 0; k < n; ++k) {
        const double root = found.inclusion[k] * std::sqrt(found.weight[k]);
        for (int l = 0; l < n; ++l) {
            const double other = found.inclusion[l] * std::sqrt(found.weight[l]);
            const std::size_t at = std::size_t(k) * n + l;
            const cd gram = times(y[0][at], z[0][at]), covariance = inverse_[std::size_t(l) * n + k];
            error += noise * root * other * (gram.real() * covariance.real() - gram.imag() * covariance.imag());
        }
        const double weight = found.weight[k];
        error += found.inclusion[k] * (1 - found.inclusion[k]) * weight * weight * std::norm(gain_[k]) *
                 y[0][std::size_t(k) * n + k].real() * z[0][std::size_t(k) * n + k].real();
    }
    // change (3 K, 2 K): gains give way by -weight inverse cross^H gain, directions move; times weight gain.
    // Lanes over the directions, u first.
    const int wide = padded(n), lanes = 2 * wide;
    std::vector<cd> weighted(n);
    for (int k = 0; k < n; ++k) weighted[k] = found.inclusion[k] * found.weight[k] * gain_[k];
    for (int l = 0; l < n; ++l) { // white_[l] = conj(cross) gain, by direction
        Row row = white_[l];
        row_of(l, row, wide);
    }
    for (int k = 0; k < n; ++k) {
        const float weight = float(-found.inclusion[k] * found.weight[k]);
        for (int i = 0; i < lanes; i += WIDTH) {
            Cvec total{};
            for (int l = 0; l < n; ++l) add(total, spread(cf(inverse_[std::size_t(k) * n + l])), white_[l].at(i));
            answer_[k].put(i, {all(weight) * total.re, all(weight) * total.im});
        }
    }
    // Gram of the aperture: atoms, slopes in u, slopes in v
    auto gram = [&](int a, int k, int b, int l) {
        const std::size_t at = std::size_t(k) * n + l;
        return times(y[(a == 1 ? 2 : 0) + (b == 1 ? 1 : 0)][at], z[(a == 2 ? 2 : 0) + (b == 2 ? 1 : 0)][at]);
    };
    for (int a = 0; a < 3; ++a)
        for (int k = 0; k < n; ++k) {
            const Row row = half_[a * n + k];
            row.clear(lanes);
            for (int l = 0; l < n; ++l) {
                const cf g(gram(a, k, 0, l)), u(times(gram(a, k, 1, l), weighted[l])), v(times(gram(a, k, 2, l), weighted[l]));
                row.re[l] += u.real(), row.im[l] += u.imag();
                row.re[wide + l] += v.real(), row.im[wide + l] += v.imag();
                for (int i = 0; i < lanes; i += WIDTH) {
                    Cvec total = row.at(i);
                    add(total, spread(g), answer_[l].at(i));
                    row.put(i, total);
                }
            }
        }
    alignas(64) float line[2 * 64];
    for (int r = 0; r < m; ++r) {
        const int path = r % n, at = r < n ? path : wide + path;
        const cf own(std::conj(weighted[path]));
        const Row moved = half_[(r < n ? n : 2 * n) + path];
        for (int i = 0; i < lanes; i += WIDTH) {
            Vec total = all(own.real()) * load(moved.re + i) - all(own.imag()) * load(moved.im + i);
            for (int l = 0; l < n; ++l)
                total += all(answer_[l].re[at]) * load(half_[l].re + i) + all(answer_[l].im[at]) * load(half_[l].im + i);
            store(line + i, total);
        }
        for (int s = 0; s < m; ++s) error += double(line[s < n ? s : wide + s - n]) * small_[std::size_t(r) * m + s];
    }
    return error / (double(p_.n_y) * p_.n_z());
}

void Searcher::run(const cf *y, float scale, const Prior &prior, const std::function<bool()> &late, Found &found) {
    take(y, scale);
    const std::size_t most = std::size_t(padded(p_.max_paths + 2)); // whole lines of lanes
    paths_ = std::min(prior.paths, p_.max_paths);
    known_ = prior.precision_u ? paths_ : 0;
    for (auto *list : {&u_, &v_, &prior_u_, &prior_v_, &precision_u_, &precision_v_, &power_, &log_odds_}) list->assign(most, 0.0);
    origin_.assign(most, -1);
    for (int k = 0; k < paths_; ++k) u_[k] = prior.u[k], v_[k] = prior.v[k];
    for (int k = 0; k < known_; ++k) {
        prior_u_[k] = prior.u[k];
        prior_v_[k] = prior.v[k];
        precision_u_[k] = prior.precision_u[k], precision_v_[k] = prior.precision_v[k], power_[k] = prior.power[k];
        log_odds_[k] = prior.log_odds[k];
        origin_[k] = k;
    }
    gain_.clear();
    stale_ = false;
    if (paths_) {
        fit(0.0);
        if (!known_) tell_apart(std::min(prior.old, paths_));
        settle(1);
        if (!known_) merge();
    }
    int rounds = 0;
    bool reached = false, time_up = false;
    while (rounds < p_.max_rounds && !reached && !time_up) {
        Peak peaks[8];
        const int room = p_.max_paths - paths_, old = paths_;
        const int count = correlate(peaks);
        reached = count == 0;
        if (reached || !room) break;
        ++rounds;
        for (int i = 0; i < std::min(count, room); ++i)
            u_[paths_] = peaks[i].u, v_[paths_] = peaks[i].v, origin_[paths_] = -1, ++paths_;
        fit(0.0, old);
        tell_apart(old);
        settle(1);
        merge();
        time_up = late && late();
    }
    const bool settled = settle(time_up ? 1 : p_.final_rounds);
    merge();
    prune();
    if (paths_) {
        solve(noise_var());
        stale_ = true;
    }
    weigh(found);
    found.rounds = rounds;
    found.settled = reached && settled && !time_up;
}

void Searcher::render(const Found &found, double scale, cf *channel) {
    const int n = found.paths, n_z = p_.n_z(), lanes = padded(n_z);
    Table rows(std::max(n, 1), n_z), line(1, n_z);
    const Table &e = line_y_.response, &z = line_z_.response;
    for (int k = 0; k < n; ++k)
        for (int i = 0; i < n_z; ++i) rows[k].re[i] = z[i].re[k], rows[k].im[i] = z[i].im[k];
    std::vector<cf> factor(std::max(n, 1));
    for (int y = 0; y < p_.n_y; ++y) {
        for (int k = 0; k < n; ++k) factor[k] = cf(times(scale * found.weight[k] * found.gain[k], cd(lane(e[y], k))));
        for (int i = 0; i < lanes; i += WIDTH) {
            Cvec total{};
            for (int k = 0; k < n; ++k) add(total, spread(factor[k]), rows[k].at(i));
            line[0].put(i, total);
        }
        float *out = reinterpret_cast<float *>(channel + std::size_t(y) * n_z);
        const Row row = line[0];
        for (int i = 0; i < n_z; ++i) out[2 * i] = row.re[i], out[2 * i + 1] = row.im[i];
    }
}

} // namespace

std::unique_ptr<Search> make(const Problem &problem) { return std::make_unique<Searcher>(problem); }

} // namespace VARIANT
