#pragma once

#include <cstddef>
#include <cstring>
#include <vector>

#include "krul/backend/owned_kv_rows.hpp"
#include "krul/core/error.hpp"

namespace krul {

/// The rows of a cache from one token on, as they were at one moment: what can be saved while the cache goes on.
class KvSnapshot {
 public:
  /// Copies rows [first, cache.length()) of every layer.
  /// @throws PreconditionError if `first` lies behind the cache's end
  /// @complexity bytes(geometry, rows) of time and memory
  template <KvSource Source>
  KvSnapshot(const Geometry& geometry, const Source& source, std::size_t first)
      : row_bytes_(geometry.kv_row_bytes()), first_(first), length_(source.length()) {
    expects(first <= length_, "KvSnapshot: the first row lies behind the cache's end");
    layers_.assign(geometry.layers, OwnedKvRows(geometry, length_ - first_));
    std::vector<Ticket> tickets;
    for (std::size_t layer = 0; layer < geometry.layers; ++layer)
      tickets.push_back(source.read_kv(layer, {first_, length_}, layers_[layer].view()));
    for (const Ticket ticket : tickets) source.wait(ticket);
  }

  /// Bytes that a snapshot of so many rows holds.
  [[nodiscard]] static std::size_t bytes(const Geometry& geometry, std::size_t rows) noexcept {
    return 2 * geometry.layers * rows * geometry.kv_row_bytes();
  }

  /// Tokens that the cache had, with those before `first`.
  [[nodiscard]] std::size_t length() const noexcept { return length_; }

  /// @throws PreconditionError if there is no such layer, a row was not copied, or the spans do not hold exactly the
  ///         range's rows
  Ticket read_kv(std::size_t layer, TokenRange tokens, MutableKvRows to) const {
    expects(layer < layers_.size() && first_ <= tokens.begin && tokens.begin <= tokens.end && tokens.end <= length_,
            "KvSnapshot: these rows were not copied");
    const std::size_t at = (tokens.begin - first_) * row_bytes_, count = tokens.size() * row_bytes_;
    expects(to.keys.size() == count && to.values.size() == count,
            "KvSnapshot: the spans do not hold the rows of the range");
    if (count > 0) {
      std::memcpy(to.keys.data(), &layers_[layer].keys[at], count);
      std::memcpy(to.values.data(), &layers_[layer].values[at], count);
    }
    return {};
  }
  void wait(Ticket) const noexcept {}

 private:
  std::size_t row_bytes_;
  std::size_t first_;
  std::size_t length_;
  std::vector<OwnedKvRows> layers_;  // [L] of the rows that were copied
};
static_assert(KvSource<KvSnapshot>);

}  // namespace krul
