// A restore policy from outside krul, beside krul's own: which front of each layer is recomputed while the rest is
// loaded? Any type with this one member function is a policy; nothing is derived from or registered.

#include <cstdio>
#include <krul/restore/cautious.hpp>
#include <krul/restore/restoration_scheduler.hpp>

/// Recomputes the whole history in the first layers and loads it in all others.
struct FirstLayers {
  std::size_t layers = 0;

  [[nodiscard]] std::vector<std::size_t> prefix(const krul::RestoreSizes& sizes, const krul::Costs&) const {
    std::vector<std::size_t> tokens(sizes.layers.size(), 0);
    std::fill_n(tokens.begin(), layers, sizes.history);
    return tokens;
  }
};
static_assert(krul::RestorePolicy<FirstLayers>);

template <krul::RestorePolicy Policy>
void show(const char* name, Policy policy, const krul::RestoreSizes& sizes, const krul::Costs& costs) {
  const krul::RestorePlan plan = krul::RestorationScheduler<Policy>(policy).plan(sizes, costs);
  const krul::Prediction predicted = krul::predict(plan, sizes, costs);
  std::printf("%-16s %4zu .. %4zu tokens recomputed, %5.1f MB read, first token after %4.0f ms\n", name,
              plan.prefix.front(), plan.prefix.back(), static_cast<double>(predicted.bytes) / 1e6,
              predicted.first_token_s * 1e3);
}

int main() {
  // 1,024 tokens in 30 layers, 25,344 bytes a block of 64 tokens and layer; a link of 50 MB/s.
  const krul::StoredLayer layer{std::vector<std::uint64_t>(16, 25344), std::vector<std::uint32_t>(16, 0)};
  const krul::RestoreSizes sizes{.history = 1024, .prompt = 32, .block = 64, .layers = std::vector(30, layer)};
  const krul::Costs costs{.link = {.latency_s = 200e-6, .bytes_per_s = 50e6},
                          .layer = {.call_s = 0.5e-3,
                                    .project_row_s = 4e-6,
                                    .finish_row_s = 18e-6,
                                    .attend_pair_s = 15e-9,
                                    .attend_key_s = 300e-9},
                          .pass_s = 5e-3};
  show("recompute", krul::FullRecompute{}, sizes, costs);
  show("load", krul::FullLoad{}, sizes, costs);
  show("uniform split", krul::UniformSplit{}, sizes, costs);
  show("pyramid", krul::Pyramid{}, sizes, costs);
  show("the best found", krul::Optimal{}, sizes, costs);
  show("the default", krul::DefaultPolicy{}, sizes, costs);
  show("first 8 layers", FirstLayers{8}, sizes, costs);
}
