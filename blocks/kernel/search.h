// What the search for paths is told and what it returns; plain, so that every variant agrees on it.
#pragma once

#include <complex>
#include <functional>
#include <memory>
#include <vector>

struct Problem {
    int n_y, chains, antennas, tables; // columns, chains a column, antennas a chain, different column beams
    double spacing_y, spacing_z;       // [wavelengths]
    std::vector<int> which;            // (n_y) table of each column, -1 where it is switched off
    std::vector<std::complex<double>> weights; // (tables, chains, antennas)
    std::vector<double> grid_u, grid_v;        // where the correlation is looked at; u in steps of 1 / (2 n_y d)
    double low, high;                          // v of the search region
    double cell_u, cell_v;                     // resolution [1]
    double cells;                              // resolution cells of the search region
    double rows;                               // observations that are not switched off
    double faintest;                           // energy of an atom is at least this share of the largest

    // Settings and constants of beamslot.dsp.path_search and .evidence.
    int max_paths, max_rounds, final_rounds, powers, apart, peaks;
    double threshold, expected_paths, next_peak, longest_step, damping, merge, settled, freedom, path_power, hidden,
        certainty, rank, twin, neighbour, silence;

    int n_z() const { return chains * antennas; }
};

// Known of the first paths before the slot. Without precisions it is a start: directions that were proposed, of paths that
// are treated like those found in the slot, the first `old` like those of rounds before.
struct Prior {
    int paths = 0, old = 0;
    const double *u = nullptr, *v = nullptr, *precision_u = nullptr, *precision_v = nullptr, *power = nullptr, *log_odds = nullptr;
};

struct Found {
    int paths = 0, rounds = 0;
    bool settled = false;
    double noise_var = 0, error_var = 0;
    std::vector<double> u, v, weight, inclusion, variance, spread_u, spread_v;
    std::vector<std::complex<double>> gain; // antennas counted from the middle
    std::vector<int> origin;                // index into the prior, -1 for paths found in the slot
};

class Search {
  public:
    virtual ~Search() = default;
    // y: (n_y, chains) of unit mean power    late: asked once a round, may be empty
    virtual void run(const std::complex<float> *y, float scale, const Prior &prior, const std::function<bool()> &late,
                     Found &found) = 0;
    // channel: (n_y, n_z) from the paths of the last run, gains weighted and times scale
    virtual void render(const Found &found, double scale, std::complex<float> *channel) = 0;
};

namespace VARIANT {
std::unique_ptr<Search> make(const Problem &problem);
}
