#pragma once

#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

#include "krul/core/costs.hpp"
#include "krul/core/resource.hpp"
#include "krul/core/tokens.hpp"

namespace krul {

/// Bytes above which one read of neighbouring blocks is cut between blocks, so that what is staged stays bounded.
inline constexpr std::uint64_t largest_request = 4U << 20;
/// The same where groups of layers were coded together. Undoing that takes longer than reading it, so it should begin
/// soon, and little of it should be left when the last bytes arrive.
inline constexpr std::uint64_t largest_group_request = 256U << 10;

/// What is stored of one layer, as the planner sees it.
struct StoredLayer {
  std::vector<std::uint64_t> block_bytes;      ///< [blocks] encoded length of each block, K and V
  std::vector<std::uint32_t> block_object;     ///< [blocks] which object holds it: neighbours in one are one request
  std::vector<std::int32_t> shared_with = {};  ///< [blocks] nearest shallower layer whose chunk this block's is as
                                               ///< well, -1 for none; empty if the layer shares nothing
  std::size_t unstored = 0;    ///< leading tokens that are not stored, whole blocks or the history: to be recomputed
  double joint_share = 0;      ///< of its stored rows: those that a profile coded, 0 to 1
  double projected_share = 0;  ///< of its stored rows: those that the layer projects once they are loaded, 0 to 1
  std::uint64_t most_bytes = largest_request;  ///< of one request
  std::size_t group_layers = 1;  ///< neighbours that were coded together, this one among them: decoded together
  std::size_t group_index = 0;   ///< which of them this is
};

/// What a restore starts from: sizes only, no data.
struct RestoreSizes {
  std::size_t history = 0;          ///< N: tokens to bring back
  std::size_t prompt = 1;           ///< M >= 1: new tokens that follow in the same pass
  std::size_t block = 64;           ///< tokens of a stored block; the last one may be shorter
  std::vector<StoredLayer> layers;  ///< [L]

  [[nodiscard]] std::size_t blocks() const noexcept { return (history + block - 1) / block; }
  /// Whether a layer reads a block under a plan: not if its rows are recomputed, nor if a shallower layer has read the
  /// chunk for both.
  [[nodiscard]] bool reads(const std::vector<std::size_t>& prefix, std::size_t layer, std::size_t block_index) const {
    const std::size_t first = block_index * block;
    if (first < prefix[layer]) return false;
    const auto& shared = layers[layer].shared_with;
    return shared.empty() || shared[block_index] < 0 || first < prefix[static_cast<std::size_t>(shared[block_index])];
  }
};

/// What a restore will do: layer l recomputes its first prefix[l] tokens and loads the rest. Pure data.
/// Invariant: history >= prefix[0] >= prefix[1] >= ...; each is a multiple of the block or the whole history, and no
/// less than what is not stored.
struct RestorePlan {
  std::size_t history = 0;  ///< N
  std::size_t prompt = 1;   ///< M
  std::size_t block = 64;
  std::vector<std::size_t> prefix;  ///< [L] tokens

  [[nodiscard]] TokenRange suffix(std::size_t layer) const { return {prefix[layer], history}; }
  /// History rows whose hidden states go on from layer l to layer l + 1.
  [[nodiscard]] std::size_t carried(std::size_t layer) const {
    return layer + 1 < prefix.size() ? prefix[layer + 1] : 0;
  }
  friend bool operator==(const RestorePlan&, const RestorePlan&) = default;
};

/// Seconds that a plan will take under given costs.
struct Prediction {
  double opening_s = 0;      ///< before the work starts, the same for every plan: see predict_opening_s
  double first_token_s = 0;  ///< from the start of the work until the prompt's last logits are there
  ResourceTimes busy = {};   ///< how long each resource works
  std::uint64_t bytes = 0;   ///< to be read
  [[nodiscard]] double total_s() const noexcept { return opening_s + first_token_s; }
  [[nodiscard]] double bound_s() const noexcept { return busy.largest(); }
  [[nodiscard]] double bubble_s() const noexcept { return first_token_s - bound_s(); }
};

}  // namespace krul
