#pragma once

#include <cstring>

#include "krul/compress/row_codec.hpp"

namespace krul {

/// The cache's own bytes: what is loaded is bit-identical to what was saved, NaN payloads included.
class ExactCodec {
 public:
  [[nodiscard]] std::string_view name() const noexcept { return "exact"; }
  [[nodiscard]] std::size_t bytes(const Geometry& geometry, std::size_t rows) const noexcept {
    return rows * geometry.kv_row_bytes();
  }

  /// @throws PreconditionError if a span's length does not fit
  void encode(const Geometry& geometry, std::span<const std::byte> rows, std::span<std::byte> to) const {
    copy(geometry, rows, to);
  }

  /// Any bytes of the right length are rows, so this never fails.
  /// @throws PreconditionError if a span's length does not fit
  [[nodiscard]] Status decode(const Geometry& geometry, std::span<const std::byte> from,
                              std::span<std::byte> rows) const {
    copy(geometry, from, rows);
    return {};
  }

  [[nodiscard]] double relative_error(ElementType) const noexcept { return 0; }

 private:
  static void copy(const Geometry& geometry, std::span<const std::byte> from, std::span<std::byte> to) {
    const std::size_t row = geometry.kv_row_bytes();
    expects(row > 0 && from.size() % row == 0 && to.size() == from.size(),
            "ExactCodec: both spans must hold the same whole number of rows");
    if (!from.empty()) std::memcpy(to.data(), from.data(), from.size());
  }
};
static_assert(RowCodec<ExactCodec>);

}  // namespace krul
