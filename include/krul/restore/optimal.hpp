#pragma once

#include <algorithm>
#include <array>
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
/// Resources in a chain (link, cores, copy, and what computes) end when the largest of many sums does: what one of them
/// does up to some layer, and the next one from that layer on, up to what computes. Weighed are those sums that change
/// once: all work of what computes; and for each layer l and each other resource what that does up to l, what those
/// behind it do in l, and what computes does after it has l. With a link and cores these L + 1 are all there are; with
/// a device there are more than these 3 L + 1. Every front is judged by its whole prediction, on any machine; that the
/// best one is found is promised on none.
///
/// For fixed weights of these sums the best fronts fall apart into one choice a layer, with the order between layers as
/// the only bond, and are found by dynamic programming. The weights move towards the sums that are largest
/// (multiplicative weights). It starts from the best of FullRecompute, FullLoad, UniformSplit and Pyramid, and ends
/// with single blocks moved where that helps. Chunks that layers share count in full for each layer while fronts are
/// chosen, and as they are when a front is judged.
/// @post       never predicted to be later than the best of these four
/// @complexity O(L * blocks) for each of 32 rounds, and O(L^2); with shared chunks a factor of blocks more
/// @source     ours; multiplicative weights for the largest of several sums: Plotkin, Shmoys, Tardos 1995, second-hand
class Optimal {
 public:
  [[nodiscard]] std::vector<std::size_t> prefix(const RestoreSizes& sizes, const Costs& costs) const {
    return costs.on.compute == Resource::device ? found<3>(sizes, costs) : found<1>(sizes, costs);
  }

 private:
  template <std::size_t feeders>
  [[nodiscard]] static std::vector<std::size_t> found(const RestoreSizes& sizes, const Costs& costs) {
    Search<feeders> search(sizes, costs);
    search.consider(BestOf<FullRecompute, FullLoad, UniformSplit, Pyramid>{}.prefix(sizes, costs));
    if (sizes.history > 0) {
      search.weigh();
      search.move_blocks();
    }
    return search.best();
  }

  /// @tparam feeders  how many resources come before what computes: the first ones, in the order of the work
  template <std::size_t feeders>
  class Search {
    static_assert(all_resources[0] == Resource::link && all_resources[1] == Resource::cores &&
                  all_resources[2] == Resource::copy);
    using Fed = std::array<double, feeders>;

   public:
    Search(const RestoreSizes& sizes, const Costs& costs)
        : sizes_(sizes),
          costs_(costs),
          predictor_(sizes, costs),
          layers_(sizes.layers.size()),
          choices_(sizes.blocks() + 1),
          sums_(feeders * layers_ + 1) {}

    [[nodiscard]] const std::vector<std::size_t>& best() const noexcept { return best_; }

    /// Keeps an admissible front if it is the best so far; sums_ are its sums. @return whether it was
    bool consider(const std::vector<std::size_t>& prefix) {
      double computed_s = 0;
      Fed fed = {}, fed_above = {};  // busy times up to here, and up to the layer above
      const auto observe = [&](Resource resource, std::string_view name, std::size_t layer, double begin_s,
                               double end_s) {
        if (resource == costs_.on.compute) {
          if (name == "decode") {
            double behind_s = 0;
            for (std::size_t f = feeders; f-- > 0; behind_s += fed[f] - fed_above[f])
              sums_[f * layers_ + layer] = fed[f] + behind_s - computed_s;
            fed_above = fed;
          }
          computed_s += end_s - begin_s;
        } else if (resource == Resource::link) {
          fed[0] = end_s;  // never waits
        } else if constexpr (feeders > 1) {
          fed[static_cast<std::size_t>(resource)] += end_s - begin_s;
        }
      };
      const double first_token_s = predictor_.walk(prefix, observe).first_token_s;
      for (std::size_t i = 0; i < feeders * layers_; ++i) sums_[i] += computed_s;
      sums_.back() = computed_s;
      if (first_token_s >= best_s_) return false;
      best_ = prefix;
      best_s_ = first_token_s;
      return true;
    }

    void weigh() {
      constexpr std::size_t rounds = 32;
      std::vector<double> weights(sums_.size(), 1 / static_cast<double>(sums_.size()));
      std::vector<std::size_t> fronts(layers_);
      prepare_choices();
      for (std::size_t round = 0; round < rounds; ++round) {
        const double largest = *std::max_element(sums_.begin(), sums_.end());
        if (!(largest > 0)) return;
        // Ever smaller steps: the first ones find the sums that matter, the last ones balance them.
        const double step = 8 / std::sqrt(1 + static_cast<double>(round));
        double total = 0;
        for (std::size_t i = 0; i < sums_.size(); ++i) total += weights[i] *= std::exp(step * (sums_[i] / largest - 1));
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

    /// Seconds of each choice of each layer: before what computes, and there before the layer's wait and after it.
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
          const auto load =
              predictor_.load(layer, predictor_.suffix(layer, blocks), static_cast<double>(sizes_.history - tokens));
          Parts& parts = parts_[layer * choices_ + blocks];
          parts.before_s = rows * cost.project_row_s;
          if constexpr (feeders == 1) {
            parts.fed = {load.read_s};
            parts.before_s += load.cores_read_s;
            parts.after_s = load.decode_s;
          } else {
            const bool cores_decode = costs_.on.decode == Resource::cores;
            parts.fed = {load.read_s, load.cores_read_s + (cores_decode ? load.decode_s : 0), load.copy_s};
            parts.after_s = cores_decode ? load.project_s : load.decode_s;
          }
          // The rows of this front were attended and finished in the layer above, behind that layer's wait.
          if (layer > 0) parts.before_s += rows * cost.finish_row_s + attended_pairs(0, tokens) * cost.attend_pair_s;
        }
      }
    }

    /// The admissible fronts with the least weighted sum.
    void choose(std::span<const double> weights, std::vector<std::size_t>& fronts) {
      // How much a second counts: before what computes in layer l, the weight of the resource's sums of l and below,
      // and of l's of resources before it; where it computes before the wait of l, that of the sums above; after it,
      // with l's own.
      Fed below = {}, counts = {};
      least_.assign(choices_, 0);
      for (std::size_t layer = layers_; layer-- > 0;) {
        double own = 0, all_below = 0;
        for (std::size_t f = 0; f < feeders; ++f) {
          const double weight = weights[f * layers_ + layer];
          below[f] += weight;
          counts[f] = below[f] + own;
          own += weight;
          all_below += below[f];
        }
        const double above = 1 - all_below;
        double running = std::numeric_limits<double>::infinity();
        std::size_t argument = lowest_[layer];
        for (std::size_t blocks = lowest_[layer]; blocks < choices_; ++blocks) {
          const Parts& part = parts_[layer * choices_ + blocks];
          double fed = 0;
          for (std::size_t f = 0; f < feeders; ++f) fed += counts[f] * part.fed[f];
          const double sum = fed + above * part.before_s + (above + own) * part.after_s + least_[blocks];
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
      Fed fed = {};
      double before_s = 0, after_s = 0;
    };

    const RestoreSizes& sizes_;
    const Costs& costs_;
    Predictor predictor_;
    std::size_t layers_, choices_;
    std::vector<double> sums_;          ///< [feeders * L + 1] of what was considered last
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
