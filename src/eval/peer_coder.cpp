#include "krul/eval/peer_coder.hpp"

#include <charconv>
#include <optional>

namespace krul::eval {
namespace {

/// The whole number between these ends of the name, if it is one.
std::optional<unsigned> number_in(std::string_view name, std::string_view before, std::string_view after = {}) {
  if (!name.starts_with(before) || !name.ends_with(after) || name.size() <= before.size() + after.size()) return {};
  name = name.substr(before.size(), name.size() - before.size() - after.size());
  unsigned number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  if (error != std::errc() || end != name.data() + name.size()) return {};
  return number;
}

}  // namespace

Result<PeerCoder> PeerCoder::named(std::string_view name, const BasisSource& basis) {
  if (name == "q4_0") return PeerCoder(Q40Coder());
  if (const auto bits = number_in(name, "kivi-"); bits && *bits >= 1 && *bits <= 8) return PeerCoder(KiviCoder(*bits));
  if (const auto ratio = number_in(name, "kvtc-"); ratio && *ratio > 0)
    return PeerCoder(KvtcCoder(basis(), {.ratio = *ratio}));
  if (const auto ratio = number_in(name, "kvtc-", "-w0"); ratio && *ratio > 0)
    return PeerCoder(KvtcCoder(basis(), {.ratio = *ratio, .window = 0}));
  return fail(ErrorCode::invalid_argument, "no coder is called \"" + std::string(name) +
                                               "\"; there are q4_0, kivi-BITS (1 to 8), kvtc-RATIO and kvtc-RATIO-w0");
}

}  // namespace krul::eval
