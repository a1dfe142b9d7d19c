#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "krul/backend/kv_cache.hpp"

namespace krul::cuda {

/// Which rows a cache on a device has room for, which are there, and how many are committed. The rows themselves are
/// elsewhere: whoever asks for them on a stream marks them here.
class RowBook {
 public:
  [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }
  [[nodiscard]] std::size_t layers() const noexcept { return present_.size(); }
  [[nodiscard]] std::size_t row_bytes() const noexcept { return row_bytes_; }
  [[nodiscard]] std::size_t length() const noexcept { return length_; }
  [[nodiscard]] const TokenSet& present(std::size_t layer) const { return present_.at(layer); }

  /// @throws PreconditionError if the range exceeds the capacity
  void mark_present(std::size_t layer, TokenRange tokens) {
    expects(tokens.end <= capacity_, "a device's cache: beyond the capacity");
    present_.at(layer).insert(tokens);
  }
  /// @throws PreconditionError unless every layer has all rows of [0, count)
  void commit(std::size_t count) {
    for (const TokenSet& rows : present_)
      expects(rows.contains({0, count}), "a device's cache: committing rows that are not present");
    length_ = count;
  }
  void truncate(std::size_t count) {
    for (TokenSet& rows : present_) rows.truncate(count);
    length_ = std::min(length_, count);
  }

 protected:
  RowBook(const Geometry& geometry, std::size_t capacity)
      : row_bytes_(geometry.kv_row_bytes()), capacity_(capacity), present_(geometry.layers) {}

  /// Rows beyond it are forgotten.
  void set_capacity(std::size_t capacity) {
    truncate(capacity);
    capacity_ = capacity;
  }
  /// @throws PreconditionError if the range exceeds the capacity or the spans do not hold exactly its rows
  void check(std::size_t layer, TokenRange tokens, const KvRows& rows) const {
    expects(layer < present_.size(), "a device's cache: no such layer");
    expects(tokens.begin <= tokens.end && tokens.end <= capacity_, "a device's cache: beyond the capacity");
    expects(rows.keys.size() == tokens.size() * row_bytes_ && rows.values.size() == rows.keys.size(),
            "a device's cache: the spans do not hold the rows of the range");
  }
  /// @throws PreconditionError as check, and if a row is not present
  void check_present(std::size_t layer, TokenRange tokens, const KvRows& rows) const {
    check(layer, tokens, rows);
    expects(present_[layer].contains(tokens), "a device's cache: reading rows that are not present");
  }

 private:
  std::size_t row_bytes_, capacity_, length_ = 0;
  std::vector<TokenSet> present_;  // [L]
};

}  // namespace krul::cuda
