#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "cuda/model/tiny_on_device.hpp"
#include "krul/backend/conformance.hpp"
#include "krul/conversation/conversation.hpp"
#include "krul/model/cpu_backend.hpp"
#include "krul/store/memory_store.hpp"
#include "krul/strategy/catalogue.hpp"
#include "support/profile_samples.hpp"

using namespace krul;
using cuda::test::OrderedDevice;
using cuda::test::TinyOnDevice;

namespace {

/// A conversation that is opened, or goes on.
template <ModelBackend B>
std::vector<float> logits_of(B& model, MemoryStore& store, const std::string& id, const ConversationOptions& options,
                             std::span<const Token> tokens, bool save) {
  std::vector<float> logits(model.geometry().vocabulary);
  auto conversation = open_conversation(model, store, id, options);
  INFO((conversation ? std::string() : conversation.error().message));
  REQUIRE(conversation);
  const auto report = conversation->advance(tokens, logits);
  REQUIRE(report);
  CHECK(report->reasons.empty());
  if (save) {
    const auto saved = conversation->save();
    INFO((saved ? std::string() : saved.error().message));
    REQUIRE(saved);
  }
  return logits;
}

}  // namespace

TEST_CASE("every strategy saves from a device and restores to it, and to a processor") {
  const krul::testing::TinyModel shape{.layers = 4, .context = 256};
  TinyOnDevice on_device(shape, 5);
  auto on_host = CpuBackend<AnyKernels>::load(on_device.file(), *AnyKernels::choose(KernelChoice::krul, Precision::f32),
                                              {.threads = 2, .tokenizer = "tiny"});
  REQUIRE(on_host);
  const Geometry& geometry = on_host->geometry();
  const auto profile = Profile::create(
      krul::testing::random_profile(geometry, {1, 3}, geometry.kv_values(), geometry.hidden, 31), geometry);
  REQUIRE(profile);
  std::vector<Token> tokens;
  for (std::size_t i = 0; i < 150; ++i) tokens.push_back(static_cast<Token>((i * i * 7 + 13 * i) % shape.vocabulary));
  const auto history = std::span(tokens).first(140);
  // Both compute in f32 what the other computes, and read the same rows.
  const double allowed = default_tolerance(geometry, geometry.cache_type);
  for (const auto& [strategy, meaning] : strategy::catalogue(*profile)) {
    CAPTURE(strategy.name());
    MemoryStore store;
    ConversationOptions options{.strategy = strategy};
    options.capacity = 200;
    logits_of(on_device.model, store, "garden", options, history, true);
    options.read_only = true;
    const auto restored = logits_of(on_device.model, store, "garden", options, tokens, false);
    const auto by_host = logits_of(*on_host, store, "garden", options, tokens, false);
    CHECK(conformance::relative_difference(restored, by_host, geometry.vocabulary) <= allowed);
  }
}
