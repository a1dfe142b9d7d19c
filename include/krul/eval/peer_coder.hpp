#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "krul/eval/kivi.hpp"
#include "krul/eval/kvtc.hpp"
#include "krul/eval/q4_0.hpp"

namespace krul::eval {

/// Any of the published coders that krul is compared with.
class PeerCoder {
 public:
  using Any = std::variant<Q40Coder, KiviCoder, KvtcCoder>;
  explicit PeerCoder(Any coder) : coder_(std::move(coder)) {}

  /// Gives a basis for KVTC when one is wanted.
  using BasisSource = std::function<std::shared_ptr<const KvtcBasis>()>;

  /// "q4_0", "kivi-BITS", "kvtc-RATIO", "kvtc-RATIO-w0" (no recent window)
  /// @return invalid_argument, with the names, if there is no such coder
  [[nodiscard]] static Result<PeerCoder> named(std::string_view name, const BasisSource& basis);

  [[nodiscard]] std::string name() const {
    return std::visit([](const auto& coder) { return coder.name(); }, coder_);
  }
  [[nodiscard]] std::vector<std::byte> encode(const Geometry& geometry, const HistoryRows& rows) const {
    return std::visit([&](const auto& coder) { return coder.encode(geometry, rows); }, coder_);
  }
  [[nodiscard]] HistoryRows decode(const Geometry& geometry, std::span<const std::byte> bytes) const {
    return std::visit([&](const auto& coder) { return coder.decode(geometry, bytes); }, coder_);
  }

 private:
  Any coder_;
};
static_assert(HistoryCoder<PeerCoder>);

}  // namespace krul::eval
