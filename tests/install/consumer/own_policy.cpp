// A restore policy of one's own: no base class, no registration, no macro.

#include <cstdio>
#include <krul/restore/restoration_scheduler.hpp>
#include <vector>

/// Recomputes the first tokens of every layer, as attention sinks, and loads the rest.
struct KeepSinks {
  std::size_t sinks = 4;

  std::vector<std::size_t> prefix(const krul::RestoreSizes& sizes, const krul::Costs&) const {
    return std::vector<std::size_t>(sizes.layers.size(), sinks);
  }
};
static_assert(krul::RestorePolicy<KeepSinks>);

int main() {
  krul::RestoreSizes sizes;
  sizes.history = 20;
  sizes.block = 4;
  for (std::uint32_t layer = 0; layer < 3; ++layer)
    sizes.layers.push_back({std::vector<std::uint64_t>(5, 1000), {0, 0, 0, 0, 0}});

  const krul::RestorePlan plan = krul::RestorationScheduler{KeepSinks{9}}.plan(sizes, krul::Costs{});
  std::printf("recomputed tokens:");
  for (const std::size_t tokens : plan.prefix) std::printf(" %zu", tokens);
  std::printf("\n");
  return plan.prefix == std::vector<std::size_t>{8, 8, 8} ? 0 : 1;
}
