#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "krul/restore/best_of.hpp"
#include "krul/restore/full_load.hpp"
#include "krul/restore/full_recompute.hpp"
#include "krul/restore/pyramid.hpp"
#include "krul/restore/restore_policy.hpp"
#include "krul/restore/uniform_split.hpp"

namespace krul {

/// Any front that does not grow with depth: the one that is predicted to bring the first token soonest, as far as a
/// search finds it.
///
/// The time to the first token is the largest of L + 1 sums: all work of the cores; and for each layer l what the link
/// reads up to l and what the cores do after they have it. For fixed weights of these sums the best fronts fall apart
/// into one choice a layer, with the order between layers as the only bond, and are found by dynamic programming. The
/// weights move towards the sums that are largest (multiplicative weights), and every answer on the way is predicted
/// exactly. It starts from the best of FullRecompute, FullLoad, UniformSplit and Pyramid, and ends with single blocks
/// moved where that helps. Chunks that layers share count in full for each layer while fronts are chosen, and as they
/// are when a front is judged.
/// @post       never predicted to be later than the best of these four
/// @complexity O(L * blocks) for each of 32 rounds, and O(L^2); with shared chunks a factor of blocks more
/// @source     ours; multiplicative weights for the largest of several sums: Plotkin, Shmoys, Tardos 1995, second-hand
class Optimal {
 public:
  [[nodiscard]] std::vector<std::size_t> prefix(const RestoreSizes& sizes, const Costs& costs) const {
    Search search(sizes, costs);
    search.consider(BestOf<FullRecompute, FullLoad, UniformSplit, Pyramid>{}.prefix(sizes, costs));
    if (sizes.history > 0) {
      search.weigh();
      search.move_blocks();
    }
    return search.best();
  }

 private:
  class Search {
   public:
    Search(const RestoreSizes& sizes, const Costs& costs)
        : sizes_(sizes),
          costs_(costs),
          predictor_(sizes, costs),
          layers_(sizes.layers.size()),
          choices_(sizes.blocks() + 1),
          sums_(layers_ + 1) {}

    [[nodiscard]] const std::vector<std::size_t>& best() const noexcept { return best_; }

    /// Keeps an admissible front if it is the best so far; sums_ are its sums. @return whether it was
    bool consider(const std::vector<std::size_t>& prefix) {
      double cores_s = 0;
      const auto observe = [&](Lane lane, std::string_view name, std::size_t layer, double begin_s, double end_s) {
        if (lane == Lane::link) {
          sums_[layer] = end_s;
        } else {
          if (name == "decode") sums_[layer] -= cores_s;
          cores_s += end_s - begin_s;
        }
      };
      const double first_token_s = predictor_.walk(prefix, observe).first_token_s;
      for (std::size_t layer = 0; layer < layers_; ++layer) sums_[layer] += cores_s;
      sums_[layers_] = cores_s;
      if (first_token_s >= best_s_) return false;
      best_ = prefix;
      best_s_ = first_token_s;
      return true;
    }

    void weigh() {
      constexpr std::size_t rounds = 32;
      std::vector<double> weights(layers_ + 1, 1 / static_cast<double>(layers_ + 1));
      std::vector<std::size_t> fronts(layers_);
      prepare_choices();
      for (std::size_t round = 0; round < rounds; ++round) {
        const double largest = *std::max_element(sums_.begin(), sums_.end());
        if (!(largest > 0)) return;
        // Ever smaller steps: the first ones find the sums that matter, the last ones balance them.
        const double step = 8 / std::sqrt(1 + static_cast<double>(round));
        double total = 0;
        for (std::size_t i = 0; i <= layers_; ++i) total += weights[i] *= std::exp(step * (sums_[i] / largest - 1));
        for (double& weight : weights) weight = std::max(weight / total, 1e-9);
        choose(weights, fronts);
        consider(fronts);
      }
    }

    void move_blocks() {
      constexpr std::size_t sweeps = 2;
      for (std::size_t i = 0; i < sweeps * layers_; ++i) {
        const std::size_t layer = i % layers_;
        if (!move(layer, true)) move(layer, false);
      }
    }

   private:
    [[nodiscard]] std::size_t tokens_of(std::size_t blocks) const {
      return std::min(blocks * sizes_.block, sizes_.history);
    }

    /// One block more or less in a layer, and in those that must follow it. @return whether that helps
    bool move(std::size_t layer, bool longer) {
      const std::size_t front = best_[layer];
      if (longer ? front == sizes_.history : front == 0) return false;
      const std::size_t blocks = (front + sizes_.block - 1) / sizes_.block;
      const std::size_t wanted = tokens_of(longer ? blocks + 1 : blocks - 1);
      std::vector<std::size_t> prefix = best_;
      for (std::size_t l = 0; l < layers_; ++l)
        prefix[l] = longer ? (l <= layer ? std::max(prefix[l], wanted) : prefix[l])
                           : (l >= layer ? std::min(prefix[l], wanted) : prefix[l]);
      return consider(admissible(sizes_, std::move(prefix)));
    }

    /// Seconds of each choice of each layer: on the link, on the cores before the layer's wait and after it.
    void prepare_choices() {
      const LayerCosts& cost = costs_.layer;
      parts_.resize(layers_ * choices_);
      lowest_.resize(layers_);
      best_of_.resize(parts_.size());
      std::size_t below = 0;
      for (std::size_t layer = layers_; layer-- > 0;) {
        below = std::max(below, sizes_.layers[layer].unstored);
        lowest_[layer] = (below + sizes_.block - 1) / sizes_.block;
        for (std::size_t blocks = 0; blocks < choices_; ++blocks) {
          const std::size_t tokens = tokens_of(blocks);
          const auto rows = static_cast<double>(tokens);
          const auto [bytes, requests] = predictor_.suffix(layer, blocks);
          const double read_s = costs_.link.latency_s * static_cast<double>(requests) +
                                static_cast<double>(bytes) / costs_.link.bytes_per_s;
          // The rows of this front were attended and finished in the layer above, behind that layer's wait.
          double before_s = rows * cost.project_row_s + static_cast<double>(bytes) * costs_.link.core_s_per_byte;
          if (layer > 0) before_s += rows * cost.finish_row_s + attended_pairs(0, tokens) * cost.attend_pair_s;
          parts_[layer * choices_ + blocks] = {
              read_s, before_s, static_cast<double>(sizes_.history - tokens) * predictor_.decode_row_s(layer)};
        }
      }
    }

    /// The admissible fronts with the least weighted sum.
    void choose(std::span<const double> weights, std::vector<std::size_t>& fronts) {
      // How much a second counts: on the link in layer l, the weight of all sums of l and below; on the cores before
      // the wait of l, that of the sums above; after it, with l's own.
      double link = 0;
      least_.assign(choices_, 0);
      for (std::size_t layer = layers_; layer-- > 0;) {
        link += weights[layer];
        const double above = 1 - link;
        double running = std::numeric_limits<double>::infinity();
        std::size_t argument = lowest_[layer];
        for (std::size_t blocks = lowest_[layer]; blocks < choices_; ++blocks) {
          const Parts& part = parts_[layer * choices_ + blocks];
          const double sum =
              link * part.read_s + above * part.before_s + (above + weights[layer]) * part.after_s + least_[blocks];
          if (sum < running) running = sum, argument = blocks;
          least_[blocks] = running;
          best_of_[layer * choices_ + blocks] = argument;
        }
        for (std::size_t blocks = 0; blocks < lowest_[layer]; ++blocks)
          least_[blocks] = std::numeric_limits<double>::infinity();
      }
      std::size_t blocks = choices_ - 1;
      for (std::size_t layer = 0; layer < layers_; ++layer) {
        blocks = best_of_[layer * choices_ + blocks];
        fronts[layer] = tokens_of(blocks);
      }
    }

    struct Parts {
      double read_s, before_s, after_s;
    };

    const RestoreSizes& sizes_;
    const Costs& costs_;
    Predictor predictor_;
    std::size_t layers_, choices_;
    std::vector<double> sums_;          ///< [L + 1] of what was considered last
    std::vector<Parts> parts_;          ///< [L, choices]
    std::vector<std::size_t> lowest_;   ///< [L] blocks that must be recomputed
    std::vector<std::size_t> best_of_;  ///< [L, choices] best choice up to one
    std::vector<double> least_;         ///< [choices]
    std::vector<std::size_t> best_;
    double best_s_ = std::numeric_limits<double>::infinity();
  };
};
static_assert(RestorePolicy<Optimal>);

}  // namespace krul
