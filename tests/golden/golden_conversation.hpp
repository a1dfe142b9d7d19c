#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "krul/compress/joint/profile.hpp"
#include "krul/conversation/save.hpp"
#include "krul/core/checksum.hpp"
#include "krul/core/half.hpp"
#include "krul/similarity/detail/mix.hpp"
#include "krul/similarity/tokenwise_similarity_estimator.hpp"
#include "krul/strategy/any_strategy.hpp"
#include "krul/strategy/gather.hpp"
#include "support/profile_samples.hpp"
#include "support/toy_conversation.hpp"

namespace krul::test {

/// What every golden folder was made from: forty rows of a toy model whose values are made of whole numbers, so that
/// they are the same wherever they are made.
struct GoldenConversation {
  static constexpr std::size_t rows = 40, block = 16;

  toy::Backend model{ElementType::f16};
  std::vector<Token> tokens = toy_tokens(rows);
  toy::Backend::Cache cache = model.make_cache(64);
  AttentionStatistics statistics;
  HiddenStates hidden{model.geometry()};
  std::vector<double> unpredictability = {0, 4, 3, 2, 4, 0, 1, 9, 3, 1, 0, 9, 2, 9, 9, 0};
  Costs costs{.link = {.bytes_per_s = 2e4}, .layer = {.project_row_s = 1e-3, .finish_row_s = 1e-3}};
  std::shared_ptr<const Profile> profile;

  /// @param profile_bytes  as they lie beside the folders
  explicit GoldenConversation(std::span<const std::byte> profile_bytes) {
    profile = Profile::create(parse_profile(profile_bytes).value(), model.geometry()).value();
    auto batch = model.make_batch();
    TokenwiseSimilarityEstimator<> estimator(model.geometry());
    std::vector<float> logits(model.geometry().vocabulary);
    observed_prefill(model, cache, batch, tokens, logits, estimator);
    statistics = estimator.statistics();
    const Geometry& geometry = model.geometry();
    std::uint64_t seed = 0;
    std::vector<std::byte> bytes[2];
    for (std::size_t layer = 0; layer < geometry.layers; ++layer) {
      for (auto& tensor : bytes) {
        tensor.resize(rows * geometry.kv_row_bytes());
        from_float(geometry.cache_type, values(rows * geometry.kv_values(), seed), tensor);
      }
      cache.wait(cache.write_kv(layer, {0, rows}, {bytes[0], bytes[1]}));
      hidden.append(layer, values(rows * geometry.hidden, seed));
    }
  }

  /// The plan of a save of it.
  [[nodiscard]] SavePlan plan(const AnyStrategy& strategy) {
    Workers workers(1);
    Evidence evidence = gather_evidence(model, strategy.needs(),
                                        LiveConversation<toy::Backend::Cache>{.cache = cache,
                                                                              .tokens = tokens,
                                                                              .workers = workers,
                                                                              .statistics = &statistics,
                                                                              .costs = costs,
                                                                              .block = block});
    evidence.unpredictability = unpredictability;
    return strategy.plan(evidence).value();
  }

  /// Near a bell curve, as the sum of four, with now and then a large one.
  [[nodiscard]] static std::vector<float> values(std::size_t count, std::uint64_t& seed) {
    std::vector<float> drawn;
    while (drawn.size() < count) {
      const std::uint64_t bits = krul::detail::mix(seed += 1);
      int sum = 0;
      for (int part = 0; part < 4; ++part) sum += static_cast<int>(bits >> 12 * part & 4095) - 2048;
      drawn.push_back(static_cast<float>(sum) * ((bits >> 56) == 0 ? 0x1p-6F : 0x1p-11F));
    }
    return drawn;
  }
};

[[nodiscard]] inline std::vector<std::byte> file_bytes(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  const std::vector<char> text{std::istreambuf_iterator<char>(in), {}};
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

}  // namespace krul::test
