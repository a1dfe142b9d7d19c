#pragma once

#include <cstddef>
#include <cstdlib>
#include <random>
#include <span>
#include <vector>

namespace krul::testing {

/// How much of a file is damaged how often.
struct Damage {
  std::size_t flips = 500, truncations = 200;
  std::size_t header = 0;  ///< every other flip lies in so many leading bytes; 0: anywhere
};

/// Calls check(bytes) for copies in which one bit, or up to four, are other ones, and for copies that end early.
/// The environment's KRUL_DAMAGE_ROUNDS says how often, each time at other places; once if it is not set.
template <class Check>
void each_damaged(std::span<const std::byte> bytes, const Damage& damage, const Check& check) {
  const char* const rounds = std::getenv("KRUL_DAMAGE_ROUNDS");
  for (int round = 0; round < (rounds == nullptr ? 1 : std::atoi(rounds)); ++round) {
    std::mt19937_64 random(static_cast<std::uint64_t>(round) + 1);
    for (std::size_t i = 0; i < damage.flips; ++i) {
      std::vector<std::byte> changed(bytes.begin(), bytes.end());
      const std::size_t reach = i % 2 == 0 || damage.header == 0 ? changed.size() : damage.header;
      for (std::size_t flips = i % 8 == 0 ? 4 : 1; flips > 0; --flips)
        changed[random() % reach] ^= static_cast<std::byte>(1U << random() % 8);
      check(std::move(changed));
    }
    for (std::size_t i = 0; i < damage.truncations; ++i)
      check(
          std::vector<std::byte>(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(random() % bytes.size())));
  }
}

}  // namespace krul::testing
