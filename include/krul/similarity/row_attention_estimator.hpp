#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "krul/backend/attention_observer.hpp"
#include "krul/core/aligned_buffer.hpp"
#include "krul/core/geometry.hpp"
#include "krul/similarity/row_attention.hpp"

namespace krul {

/// Gathers a conversation's RowAttention while the model runs: give it to forward as observer, in pieces of at most
/// block_rows() tokens.
///
/// Where it is told how long a pass is, it looks at the last `most_counted` rows of it only: what they leave of the
/// others is little. Of each row it looks at one layer of `layers_apart`, and counts it as often; the next row's is the
/// next one. The room that it lends holds the weights of one layer at a time.
class RowAttentionEstimator {
 public:
  /// Query rows of a pass that are looked at: four half lives.
  static constexpr std::size_t most_counted = 64;
  static constexpr std::size_t layers_apart = 8;

  /// @param bands  layers of each band, L in all
  /// @throws PreconditionError if these are not all layers
  RowAttentionEstimator(const Geometry& geometry, std::vector<std::size_t> bands);

  /// Goes on from what was seen of earlier rows. What has other bands says nothing here.
  void load(const RowAttention& earlier);
  /// Counts only query rows from `position` on, and forgets keys from there on: the conversation goes on otherwise.
  void observe_from(Position position);
  /// The rows to come go on to `end`, and no further for now: only the last of them count.
  void observe_until(Position end) noexcept;
  /// As many as can be lent room for at once; at least one.
  [[nodiscard]] std::size_t block_rows() const noexcept;

  [[nodiscard]] bool wants(Position query) const noexcept;
  [[nodiscard]] static constexpr bool lends() noexcept { return true; }
  /// @throws PreconditionError if there is no such layer
  [[nodiscard]] LentWeights lend(std::size_t layer, std::span<const Position> positions);
  void take(std::size_t layer, std::span<const Position> positions);
  [[nodiscard]] static constexpr bool sums() noexcept { return true; }
  /// @throws PreconditionError if there is no such layer
  [[nodiscard]] std::span<const float> counts(std::size_t layer, std::span<const Position> positions);
  /// @throws PreconditionError if there are more keys than were seen
  void take_squares(std::size_t layer, std::span<const float> squares);
  /// @throws PreconditionError if the block has another shape than the model
  void operator()(const AttentionBlock& block);

  /// All so far, with what was loaded; between passes.
  [[nodiscard]] const RowAttention& attention() const noexcept { return attention_; }

 private:
  static constexpr std::size_t most_bytes = std::size_t{32} << 20;  ///< of weights held at once
  static constexpr std::size_t most_rows = 2048;                    ///< of a piece: more are no faster
  static constexpr std::size_t cell_bytes = LentWeights::cell_keys * sizeof(std::uint16_t),
                               lent_bytes = cell_bytes + (1 + LentWeights::cell_bins) * sizeof(float);

  [[nodiscard]] bool looks_at(std::size_t layer, Position query) const noexcept {
    return wants(query) && (layer + query) % layers_apart == 0;
  }
  /// Rows of a layer, the first of a pass if it is layer 0.
  void begin_layer(std::size_t layer, std::span<const Position> positions);
  /// Adds sums of one row's squared weights to its layer's band.
  void add_row(std::size_t layer, Position query);
  /// What a row's squared weights count now.
  [[nodiscard]] float times_of(Position query) const noexcept;

  RowAttention attention_;
  std::size_t heads_;
  std::vector<std::size_t> band_of_;  // [L]
  Position first_ = 0;                // first row that counts
  Position near_ = 0;                 // first row that is near enough to the end of a pass to count
  Position next_ = 0;                 // row after the last one seen
  std::vector<Position> wanted_;      // of the layer
  std::vector<std::uint32_t> slots_, cells_;
  AlignedBuffer room_;
  LentWeights::Chunk chunk_;
  std::vector<float> squares_;  // [keys of a row]
  std::vector<float> counts_;   // [rows of a batch]
};
static_assert(ForesightedObserver<RowAttentionEstimator> && LendingObserver<RowAttentionEstimator> &&
              SummingObserver<RowAttentionEstimator>);

}  // namespace krul
