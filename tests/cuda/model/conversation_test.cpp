#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "cuda/model/tiny_on_device.hpp"
#include "krul/backend/conformance.hpp"
#include "krul/eval/restore_once.hpp"
#include "krul/model/cpu_backend.hpp"
#include "krul/store/memory_store.hpp"
#include "krul/strategy/catalogue.hpp"
#include "support/profile_samples.hpp"

using namespace krul;
using cuda::test::TinyOnDevice;

namespace {

constexpr std::size_t history = 140, fresh = 10;
const krul::testing::TinyModel shape{.layers = 4, .context = 256};

std::vector<Token> some_tokens() {
  std::vector<Token> tokens;
  for (std::size_t i = 0; i < history + fresh; ++i)
    tokens.push_back(static_cast<Token>((i * i * 7 + 13 * i) % shape.vocabulary));
  return tokens;
}

CpuBackend<AnyKernels> host_model(const TinyOnDevice& on_device) {
  return std::move(CpuBackend<AnyKernels>::load(on_device.file(),
                                                *AnyKernels::choose(KernelChoice::krul, Precision::f32),
                                                {.threads = 2, .tokenizer = "tiny"})
                       .value());
}

/// What a model says after it has restored a history.
template <ModelBackend B>
std::vector<float> logits_after(B& model, AnyStore& store, const eval::Returning& returning) {
  const auto restored = eval::restore_once(model, store, returning, fresh);
  INFO((restored ? std::string() : restored.error().message));
  REQUIRE(restored);
  CHECK(restored->figure.report.reasons.empty());
  return restored->logits;
}

}  // namespace

TEST_CASE("every strategy saves from a device and restores to it, and to a processor, and the other way round") {
  TinyOnDevice on_device(shape, 5);
  auto on_host = host_model(on_device);
  const Geometry& geometry = on_host.geometry();
  auto data = krul::testing::random_profile(geometry, {1, 3}, geometry.kv_values(), geometry.hidden, 31);
  data.model = on_host.identity().weights;
  const auto profile = Profile::create(std::move(data), geometry);
  REQUIRE(profile);
  const auto tokens = some_tokens();
  const auto before = std::span(tokens).first(history);
  const auto all = strategy::catalogue(*profile);
  std::vector<AnyStrategy> strategies;
  for (const auto& listed : all) strategies.push_back(listed.strategy);
  const auto coming = std::span(tokens).subspan(history);
  const auto of_device = eval::prefill_exact(on_device.model, before, fresh, strategies, coming);
  const auto of_host = eval::prefill_exact(on_host, before, fresh, strategies, coming);
  // Both compute in f32 what the other computes, and read the same rows.
  const double allowed = default_tolerance(geometry, geometry.cache_type);
  for (const AnyStrategy& strategy : strategies) {
    CAPTURE(strategy.name());
    for (const bool saved_on_device : {true, false}) {
      AnyStore store = MemoryStore();
      const eval::HistorySave save{.strategy = strategy, .id = "garden"};
      auto returning = saved_on_device ? eval::save_returning(on_device.model, store, of_device, before, save)
                                       : eval::save_returning(on_host, store, of_host, before, save);
      INFO((returning ? std::string() : returning.error().message));
      REQUIRE(returning);
      returning->tokens.insert(returning->tokens.end(), tokens.begin() + history, tokens.end());
      const auto on = logits_after(on_device.model, store, *returning);
      const auto off = logits_after(on_host, store, *returning);
      CHECK(conformance::relative_difference(on, off, geometry.vocabulary) <= allowed);
    }
  }
  CHECK(strategies.size() >= 26);
}
