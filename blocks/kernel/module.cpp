// beamslot.dsp._vp_nomp_VARIANT: the search compiled for one instruction set. `beamslot.dsp.kernel` chooses.

#include "search.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>

namespace nb = nanobind;

namespace VARIANT {

template <class T, int N> using In = nb::ndarray<const T, nb::ndim<N>, nb::c_contig, nb::device::cpu>;
template <class T, int N> using Out = nb::ndarray<T, nb::ndim<N>, nb::c_contig, nb::device::cpu>;

std::vector<std::string> variants() {
    std::vector<std::string> found;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found.push_back("avx2");
#endif
    found.push_back("baseline");
    return found;
}

template <class T> std::vector<T> list(const In<T, 1> &array) { return {array.data(), array.data() + array.size()}; }

class Kernel {
  public:
    Kernel(const nb::dict &options, In<int, 1> which, In<std::complex<double>, 3> weights, In<double, 1> grid_u,
           In<double, 1> grid_v) {
        auto number = [&](const char *name) { return nb::cast<double>(options[name]); };
        auto whole = [&](const char *name) { return nb::cast<int>(options[name]); };
        Problem &p = problem_;
        p.n_y = int(which.size());
        p.tables = int(weights.shape(0)), p.chains = int(weights.shape(1)), p.antennas = int(weights.shape(2));
        p.which = list(which);
        p.weights.assign(weights.data(), weights.data() + weights.size());
        p.grid_u = list(grid_u), p.grid_v = list(grid_v);
        p.spacing_y = number("spacing_y"), p.spacing_z = number("spacing_z");
        p.low = number("low"), p.high = number("high"), p.cell_u = number("cell_u"), p.cell_v = number("cell_v");
        p.cells = number("cells"), p.rows = number("rows"), p.faintest = number("faintest");
        p.max_paths = whole("max_paths"), p.max_rounds = whole("max_rounds"), p.final_rounds = whole("final_rounds");
        p.powers = whole("powers"), p.apart = whole("apart");
        p.peaks = whole("peaks");
        p.threshold = number("threshold"), p.expected_paths = number("expected_paths");
        p.next_peak = number("next_peak"), p.longest_step = number("longest_step"), p.damping = number("damping");
        p.merge = number("merge"), p.settled = number("settled"), p.freedom = number("freedom");
        p.path_power = number("path_power"), p.hidden = number("hidden"), p.certainty = number("certainty");
        p.rank = number("rank"), p.twin = number("twin"), p.neighbour = number("neighbour");
        p.silence = number("silence");
        if (p.max_paths < 1 || p.max_paths > 64 || p.powers < 2 || p.powers > 32 || p.peaks < 1 || p.peaks > 8 || p.grid_u.empty() || p.grid_v.empty())
            throw nb::value_error("max_paths, powers or a grid out of range");
        search_ = VARIANT::make(p);
    }

    // One slot after the other; arrays are written in place, (S, ...) with K = max_paths. start_u, start_v: (S, P) proposed
    // directions; start_paths: (S, 2) how many of them a slot has, and how many of these are old, see Prior.
    void estimate(In<std::complex<float>, 3> y, Out<std::complex<float>, 3> channel, Out<std::complex<float>, 2> gain,
                  Out<float, 2> u, Out<float, 2> v, Out<bool, 2> mask, Out<float, 2> numbers, Out<int, 1> rounds,
                  Out<bool, 1> settled, const nb::object &budget, std::optional<In<double, 2>> start_u,
                  std::optional<In<double, 2>> start_v, std::optional<In<int, 2>> start_paths) {
        const int slots = int(y.shape(0)), most = problem_.max_paths;
        if (int(y.shape(1)) != problem_.n_y || int(y.shape(2)) != problem_.chains)
            throw nb::value_error("observations do not fit the operator");
        const bool begun = start_u && start_v && start_paths;
        const std::size_t wide = begun ? start_u->shape(1) : 0;
        if (begun && (int(start_u->shape(0)) != slots || int(start_v->shape(0)) != slots || start_v->shape(1) != wide ||
                      int(start_paths->shape(0)) != slots || start_paths->shape(1) != 2))
            throw nb::value_error("the start does not fit the observations");
        for (int s = 0; s < slots; ++s) {
            const std::size_t row = std::size_t(s) * most;
            Prior start;
            if (begun) {
                const int *paths = start_paths->data() + 2 * s;
                start.paths = std::clamp(paths[0], 0, int(wide)), start.old = std::max(paths[1], 0);
                start.u = start_u->data() + std::size_t(s) * wide, start.v = start_v->data() + std::size_t(s) * wide;
            }
            const double scale = run(y.data() + std::size_t(s) * problem_.n_y * problem_.chains, start, budget);
            search_->render(found_, scale, channel.data() + std::size_t(s) * problem_.n_y * problem_.n_z());
            write(scale, gain.data() + row, u.data() + row, v.data() + row, mask.data() + row);
            numbers.data()[2 * s] = float(scale * scale * found_.noise_var);
            numbers.data()[2 * s + 1] = float(scale * scale * found_.error_var);
            rounds.data()[s] = found_.rounds, settled.data()[s] = found_.settled;
        }
    }

    // One slot from a prior (6, K): u, v, their precisions, power, log-odds; the rows of an estimate are written in place.
    // Returns ((7, K) u, v, weight, inclusion, variance, spread of u and of v; |gain|^2; index into the prior;
    // noise_var, error_var; rounds, settled), gains and powers relative to the unit.
    nb::tuple search(In<std::complex<float>, 2> y, double unit, In<double, 2> prior, Out<std::complex<float>, 2> channel,
                     Out<std::complex<float>, 1> gain, Out<float, 1> u, Out<float, 1> v, Out<bool, 1> mask,
                     const nb::object &budget) {
        if (prior.shape(0) != 6 || int(y.shape(0)) != problem_.n_y || int(y.shape(1)) != problem_.chains)
            throw nb::value_error("observations or prior do not fit");
        const std::size_t known = prior.shape(1);
        const double *p = prior.data();
        const Prior given{int(known), 0, p, p + known, p + 2 * known, p + 3 * known, p + 4 * known, p + 5 * known};
        run(y.data(), given, budget, unit);
        search_->render(found_, unit, channel.data());
        write(unit, gain.data(), u.data(), v.data(), mask.data());
        const std::size_t n = std::size_t(found_.paths);
        auto *numbers = new double[8 * n + 1];
        const std::vector<double> *lists[] = {&found_.u,        &found_.v,        &found_.weight,  &found_.inclusion,
                                              &found_.variance, &found_.spread_u, &found_.spread_v};
        for (int i = 0; i < 7; ++i) std::copy(lists[i]->begin(), lists[i]->end(), numbers + i * n);
        for (std::size_t k = 0; k < n; ++k) numbers[7 * n + k] = std::norm(found_.gain[k]);
        auto *index = new std::int64_t[n + 1];
        std::copy(found_.origin.begin(), found_.origin.end(), index);
        nb::capsule own_numbers(numbers, [](void *x) noexcept { delete[] static_cast<double *>(x); });
        nb::capsule own_index(index, [](void *x) noexcept { delete[] static_cast<std::int64_t *>(x); });
        return nb::make_tuple(nb::ndarray<nb::numpy, double>(numbers, {8, n}, own_numbers),
                              nb::ndarray<nb::numpy, std::int64_t>(index, {n}, own_index), found_.noise_var,
                              found_.error_var, found_.rounds, found_.settled);
    }

  private:
    // Fills found_ and order_; returns what y was divided by, 1 where the slot is not finite.
    double run(const std::complex<float> *y, const Prior &prior, const nb::object &budget, double unit = 0) {
        double energy = 0;
        const int entries = problem_.n_y * problem_.chains;
        for (int i = 0; i < entries; ++i)
            if (problem_.which[i / problem_.chains] >= 0) energy += double(y[i].real()) * y[i].real() + double(y[i].imag()) * y[i].imag();
        const double scale = unit > 0 ? unit : std::sqrt(energy / problem_.rows);
        found_ = Found{};
        if (!std::isfinite(scale)) {
            found_.noise_var = found_.error_var = std::numeric_limits<double>::quiet_NaN();
            order_.clear();
            return 1.0;
        }
        std::function<bool()> late;
        if (!budget.is_none()) late = [&] { return nb::cast<bool>(budget()); };
        search_->run(y, float(scale), prior, late, found_);
        order_.resize(found_.paths);
        for (int k = 0; k < found_.paths; ++k) order_[k] = k;
        std::stable_sort(order_.begin(), order_.end(), [&](int a, int b) { return strength(a) > strength(b); });
        return scale;
    }

    // The paths of a row of an estimate, the strongest first.
    void write(double scale, std::complex<float> *gain, float *u, float *v, bool *mask) const {
        const int most = problem_.max_paths;
        std::fill(mask, mask + most, false);
        std::fill(gain, gain + most, 0.0f);
        std::fill(u, u + most, 0.0f);
        std::fill(v, v + most, 0.0f);
        for (int i = 0; i < found_.paths; ++i) {
            const int k = order_[i];
            gain[i] = std::complex<float>(at_first(k, scale));
            u[i] = float(found_.u[k]), v[i] = float(found_.v[k]);
            mask[i] = true;
        }
    }

    double strength(int k) const { return std::abs(found_.gain[k]) * found_.weight[k]; }

    // The weighted gain at antenna (0, 0).
    std::complex<double> at_first(int k, double scale) const {
        const double tau = 6.283185307179586476925;
        const double turns = 0.5 * (problem_.spacing_y * (problem_.n_y - 1) * found_.u[k] +
                                    problem_.spacing_z * (problem_.n_z() - 1) * found_.v[k]);
        return scale * found_.weight[k] * found_.gain[k] * std::polar(1.0, -tau * turns);
    }

    Problem problem_;
    std::unique_ptr<Search> search_;
    Found found_;
    std::vector<int> order_;
};

} // namespace VARIANT

using namespace VARIANT;

NB_MODULE(MODULE, m) {
    m.def("variants", &variants, "Instruction sets that this machine can run, best first.");
    nb::class_<Kernel>(m, "Kernel")
        .def(nb::init<const nb::dict &, In<int, 1>, In<std::complex<double>, 3>, In<double, 1>, In<double, 1>>(),
             nb::arg("options"), nb::arg("which"), nb::arg("weights"), nb::arg("grid_u"), nb::arg("grid_v"))
        .def("estimate", &Kernel::estimate, nb::arg("y"), nb::arg("channel"), nb::arg("gain"), nb::arg("u"), nb::arg("v"),
             nb::arg("mask"), nb::arg("numbers"), nb::arg("rounds"), nb::arg("settled"),
             nb::arg("budget").none() = nb::none(), nb::arg("start_u").none() = nb::none(),
             nb::arg("start_v").none() = nb::none(), nb::arg("start_paths").none() = nb::none())
        .def("search", &Kernel::search, nb::arg("y"), nb::arg("unit"), nb::arg("prior"), nb::arg("channel"),
             nb::arg("gain"), nb::arg("u"), nb::arg("v"), nb::arg("mask"), nb::arg("budget").none() = nb::none());
}
