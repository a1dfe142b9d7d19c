#pragma once

#include <memory>
#include <string>
#include <vector>

#include "krul/eval/history_coder.hpp"
#include "krul/eval/kvtc_basis.hpp"

namespace krul::eval {

struct KvtcSettings {
  unsigned ratio = 12;       ///< how many times fewer bits than f16, before the entropy coder
  std::size_t sinks = 4;     ///< first tokens in f16
  std::size_t window = 128;  ///< last tokens in f16
};

/// KVTC, as far as its paper's summary tells: principal components of all layers' and heads' K (rotary embedding
/// undone) and V of a token, groups of them rounded with bits by dynamic programming, an entropy coder, and the first
/// and last tokens kept as they are.
///
/// What differs: 8 bits are whole numbers with a scale, not FP8; each group's codes, and the upper and the lower bytes
/// of its scales, are streams of their own for krul's rANS byte coder, where they use DEFLATE on everything.
/// @source KVTC, arXiv:2511.01815, second-hand
class KvtcCoder {
 public:
  /// @throws PreconditionError if there is no basis or ratio
  KvtcCoder(std::shared_ptr<const KvtcBasis> basis, const KvtcSettings& settings);

  /// "kvtc-12"; "kvtc-12-w0" with another window than the paper's
  [[nodiscard]] std::string name() const;

  /// @throws PreconditionError unless the rows are [L][N, G, D] of the basis's model
  [[nodiscard]] std::vector<std::byte> encode(const Geometry& geometry, const HistoryRows& rows) const;

  /// @throws PreconditionError if encode gave other bytes
  [[nodiscard]] HistoryRows decode(const Geometry& geometry, std::span<const std::byte> bytes) const;

  [[nodiscard]] const std::vector<KvtcGroup>& key_groups() const noexcept { return key_groups_; }
  [[nodiscard]] const std::vector<KvtcGroup>& value_groups() const noexcept { return value_groups_; }

 private:
  std::shared_ptr<const KvtcBasis> basis_;
  KvtcSettings settings_;
  std::vector<KvtcGroup> key_groups_, value_groups_;
};
static_assert(HistoryCoder<KvtcCoder>);

}  // namespace krul::eval
