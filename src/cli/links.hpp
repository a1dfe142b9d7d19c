#pragma once

#include <optional>
#include <string>
#include <vector>

#include "krul/core/costs.hpp"
#include "krul/core/error.hpp"

namespace krul::cli {

/// Where saved bytes come from: "100MB/s" (a throttled link of 10^6 bytes a second each), "disk" or "memory".
struct LinkName {
  enum class Kind { rate, disk, memory };
  std::string text;
  Kind kind = Kind::disk;
  double bytes_per_s = 0;  ///< for a rate
};

/// Latency of the throttled links, stated in every result.
inline constexpr double throttled_latency_s = 200e-6;

/// @return invalid_argument that says what a link may be called
[[nodiscard]] Result<LinkName> parse_link(const std::string& text);

/// Comma-separated.
[[nodiscard]] Result<std::vector<LinkName>> parse_links(const std::string& text);

}  // namespace krul::cli
