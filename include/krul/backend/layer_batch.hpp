#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <span>
#include <vector>

#include "krul/core/geometry.hpp"
#include "krul/core/tokens.hpp"

namespace krul {

/// The rows of one pass through the layers: positions, ascending, gaps allowed (a prefix and a prompt in one batch),
/// with the activations that belong to them. The caller owns it; a backend keeps nothing of a pass for itself.
template <class B>
concept LayerBatch = requires(B& batch, const B& read, std::span<const Position> positions,
                              std::span<const RowRange> rows) {
  { batch.assign(positions) } -> std::same_as<void>;
  { read.positions() } -> std::same_as<std::span<const Position>>;
  { batch.keep(rows) } -> std::same_as<void>;  ///< drops all other rows; ranges ascending and disjoint
};

/// A LayerBatch in host memory that any CPU backend can use as it is.
class HostLayerBatch {
 public:
  explicit HostLayerBatch(const Geometry& geometry)
      : hidden_width_(geometry.hidden), query_width_(geometry.query_heads * geometry.head_dim) {}

  /// Starts a pass over these rows. Keeps its memory from pass to pass.
  /// @throws PreconditionError unless the positions ascend strictly
  void assign(std::span<const Position> positions) {
    expects(std::adjacent_find(positions.begin(), positions.end(), std::greater_equal<>()) == positions.end(),
            "HostLayerBatch: positions must ascend");
    positions_.assign(positions.begin(), positions.end());
    hidden_.resize(positions.size() * hidden_width_);
    queries_.resize(positions.size() * query_width_);
    attention_.resize(positions.size() * query_width_);
  }

  [[nodiscard]] std::span<const Position> positions() const noexcept { return positions_; }
  [[nodiscard]] std::size_t rows() const noexcept { return positions_.size(); }

  [[nodiscard]] std::span<float> hidden() noexcept { return {hidden_.data(), rows() * hidden_width_}; }   // [R, hidden]
  [[nodiscard]] std::span<float> queries() noexcept { return {queries_.data(), rows() * query_width_}; }  // [R, H, D]
  [[nodiscard]] std::span<float> attention() noexcept {
    return {attention_.data(), rows() * query_width_};
  }  // [R, H, D]

  /// Drops every row that is not named; the rest move up. Between any two steps of a layer.
  /// @throws PreconditionError if the ranges overlap, descend or exceed the rows
  void keep(std::span<const RowRange> ranges) {
    std::size_t to = 0, last_end = 0;
    for (const auto& range : ranges) {
      expects(range.begin >= last_end && range.begin <= range.end && range.end <= rows(),
              "HostLayerBatch: rows to keep must ascend within the batch");
      last_end = range.end;
      if (to != range.begin) {
        move_rows(positions_, 1, range, to);
        move_rows(hidden_, hidden_width_, range, to);
        move_rows(queries_, query_width_, range, to);
        move_rows(attention_, query_width_, range, to);
      }
      to += range.size();
    }
    positions_.resize(to);
  }

 private:
  template <class T>
  static void move_rows(std::vector<T>& values, std::size_t width, RowRange from, std::size_t to) {
    const auto begin = values.begin();
    const auto at = [&](std::size_t row) { return begin + static_cast<std::ptrdiff_t>(row * width); };
    std::copy(at(from.begin), at(from.end), at(to));
  }

  std::size_t hidden_width_;
  std::size_t query_width_;
  std::vector<Position> positions_;
  std::vector<float> hidden_, queries_, attention_;
};
static_assert(LayerBatch<HostLayerBatch>);

}  // namespace krul
