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

/// A LayerBatch in host memory that any CPU backend can use as it is. Its rows may belong to several caches, one run of
/// them to each.
class HostLayerBatch {
 public:
  explicit HostLayerBatch(const Geometry& geometry)
      : hidden_width_(geometry.hidden), query_width_(geometry.query_heads * geometry.head_dim) {}

  /// Starts a pass over these rows. Keeps its memory from pass to pass.
  /// @throws PreconditionError unless the positions ascend strictly
  void assign(std::span<const Position> positions) {
    const RowRange all{0, positions.size()};
    assign_runs(positions, std::span(&all, 1));
  }

  /// Starts a pass over rows of several caches.
  /// @param positions  [R] of the rows, those of one cache after those of another
  /// @param runs       the rows of each cache, one run behind the other; a cache may have none
  /// @throws PreconditionError unless the runs are all of the rows and the positions of each ascend strictly
  void assign_runs(std::span<const Position> positions, std::span<const RowRange> runs) {
    std::size_t end = 0;
    for (const auto& run : runs) {
      expects(run.begin == end && run.begin <= run.end && run.end <= positions.size(),
              "HostLayerBatch: the runs must be the rows, one behind the other");
      const auto own = positions.subspan(run.begin, run.size());
      expects(std::adjacent_find(own.begin(), own.end(), std::greater_equal<>()) == own.end(),
              "HostLayerBatch: positions must ascend");
      end = run.end;
    }
    expects(end == positions.size(), "HostLayerBatch: the runs must be all of the rows");
    positions_.assign(positions.begin(), positions.end());
    runs_.assign(runs.begin(), runs.end());
    hidden_.resize(positions.size() * hidden_width_);
    queries_.resize(positions.size() * query_width_);
    attention_.resize(positions.size() * query_width_);
  }

  [[nodiscard]] std::span<const Position> positions() const noexcept { return positions_; }
  [[nodiscard]] std::size_t rows() const noexcept { return positions_.size(); }
  [[nodiscard]] std::span<const RowRange> runs() const noexcept { return runs_; }  ///< [caches]; one after assign

  [[nodiscard]] std::span<float> hidden() noexcept { return {hidden_.data(), rows() * hidden_width_}; }   // [R, hidden]
  [[nodiscard]] std::span<float> queries() noexcept { return {queries_.data(), rows() * query_width_}; }  // [R, H, D]
  [[nodiscard]] std::span<float> attention() noexcept {
    return {attention_.data(), rows() * query_width_};
  }  // [R, H, D]

  /// Drops every row that is not named; the rest move up, each in its run. Between any two steps of a layer.
  /// @throws PreconditionError if the ranges overlap, descend or exceed the rows
  void keep(std::span<const RowRange> ranges) {
    std::size_t last_end = 0;
    for (const auto& range : ranges) {
      expects(range.begin >= last_end && range.begin <= range.end && range.end <= rows(),
              "HostLayerBatch: rows to keep must ascend within the batch");
      last_end = range.end;
    }
    keep_of_runs(ranges);
    std::size_t to = 0;
    for (const auto& range : ranges) {
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
  void keep_of_runs(std::span<const RowRange> ranges) {
    std::size_t end = 0;
    for (auto& run : runs_) {
      const std::size_t begin = end;
      for (const auto& range : ranges)
        end += RowRange{std::clamp(range.begin, run.begin, run.end), std::clamp(range.end, run.begin, run.end)}.size();
      run = {begin, end};
    }
  }

  template <class T>
  static void move_rows(std::vector<T>& values, std::size_t width, RowRange from, std::size_t to) {
    const auto begin = values.begin();
    const auto at = [&](std::size_t row) { return begin + static_cast<std::ptrdiff_t>(row * width); };
    std::copy(at(from.begin), at(from.end), at(to));
  }

  std::size_t hidden_width_;
  std::size_t query_width_;
  std::vector<Position> positions_;
  std::vector<RowRange> runs_ = std::vector<RowRange>(1);
  std::vector<float> hidden_, queries_, attention_;
};
static_assert(LayerBatch<HostLayerBatch>);

}  // namespace krul
