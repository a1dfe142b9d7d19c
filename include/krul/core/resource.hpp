#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace krul {

/// What works in a restore. Each does one thing at a time, in the order in which it was asked to. Where nothing
/// computes on a device, `copy` and `device` have nothing to do.
enum class Resource : std::uint8_t {
  link,    ///< from the store to the host's memory
  cores,   ///< of the host
  copy,    ///< from the host's memory to the device's
  device,  ///< a processor with memory of its own
};

inline constexpr std::array all_resources = {Resource::link, Resource::cores, Resource::copy, Resource::device};

[[nodiscard]] constexpr std::string_view name(Resource resource) noexcept {
  constexpr std::array<std::string_view, all_resources.size()> names = {"link", "cores", "copy", "device"};
  return names[static_cast<std::size_t>(resource)];
}

/// Seconds of each resource.
struct ResourceTimes {
  std::array<double, all_resources.size()> seconds = {};  ///< in the order of all_resources

  [[nodiscard]] constexpr double& operator[](Resource resource) noexcept {
    return seconds[static_cast<std::size_t>(resource)];
  }
  [[nodiscard]] constexpr double operator[](Resource resource) const noexcept {
    return seconds[static_cast<std::size_t>(resource)];
  }
  /// The one with the most, the first of equals.
  [[nodiscard]] constexpr Resource busiest() const noexcept {
    return all_resources[static_cast<std::size_t>(std::max_element(seconds.begin(), seconds.end()) - seconds.begin())];
  }
  [[nodiscard]] constexpr double largest() const noexcept { return (*this)[busiest()]; }
  friend bool operator==(const ResourceTimes&, const ResourceTimes&) = default;
};

}  // namespace krul
