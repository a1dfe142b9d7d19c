#pragma once

#include <string>
#include <vector>

#include "krul/core/error.hpp"

namespace krul::eval {

/// Latency of a throttled link that names none, stated in every result.
inline constexpr double throttled_latency_s = 200e-6;

/// Where saved bytes come from: "100MB/s" (a throttled link of 10^6 bytes a second each; "100MB/s+20ms" with another
/// latency), "disk", "memory", "pcie" (the same, to a device that computes), or "1.3x": a link at which recomputing
/// takes 1.3 times as long as loading everything at two bytes a value.
struct LinkName {
  enum class Kind { rate, disk, memory, relative };
  std::string text;
  Kind kind = Kind::disk;
  double bytes_per_s = 0;                  ///< for a rate
  double latency_s = throttled_latency_s;  ///< for a rate
  double factor = 0;                       ///< for a relative one: see MachineCosts::resolved
  bool to_device = false;                  ///< means something only where a device computes
};

/// @return invalid_argument that says what a link may be called
[[nodiscard]] Result<LinkName> parse_link(const std::string& text);

/// Comma-separated.
[[nodiscard]] Result<std::vector<LinkName>> parse_links(const std::string& text);

}  // namespace krul::eval
