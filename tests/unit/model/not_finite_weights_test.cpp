// A weight that is not finite is found with every tensor and precision, also where the arithmetic has no word for it.

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "krul/backend/forward.hpp"
#include "krul/model/cpu_backend.hpp"
#include "support/tiny_model.hpp"

using namespace krul;

TEST_CASE("weights that are not finite end in one error, whatever tensor and arithmetic they meet") {
  const auto bytes = krul::testing::tiny_model({.tied = false});
  const auto names = [&] {
    std::vector<std::string> found;
    const auto file = GgufFile::from_memory(bytes, "tiny.gguf").value();
    for (const auto& tensor : file.tensors()) found.emplace_back(tensor.name);
    return found;
  }();
  REQUIRE(names.size() > 10);
  const std::vector<Token> tokens{0, 5, 7, 9};
  for (const auto precision : {Precision::f32, Precision::bf16, Precision::int8})
    for (const float value : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()})
      for (const std::string& name : names) {
        CAPTURE(krul::name(precision));
        CAPTURE(value);
        CAPTURE(name);
        auto poisoned = bytes;
        auto file = GgufFile::from_memory(poisoned, "tiny.gguf").value();
        std::memcpy(poisoned.data() + (file.find(name)->data.data() - poisoned.data()), &value, sizeof value);
        auto kernels = AnyKernels::choose(KernelChoice::krul, precision);
        if (!kernels) continue;  // not on this processor
        auto model = CpuBackend<AnyKernels>::load(std::move(file), std::move(*kernels), {.threads = 2});
        if (!model) {
          CHECK(model.error().code == ErrorCode::corrupt);
          CHECK(model.error().message.find(name) != std::string::npos);
          continue;
        }
        auto cache = model->make_cache(tokens.size());
        auto batch = model->make_batch();
        std::vector<float> logits(model->geometry().vocabulary);
        CHECK_THROWS_AS(forward(*model, cache, batch, tokens, logits), NotFiniteError);
        CHECK(cache.length() == 0);
      }
}

TEST_CASE("finite weights whose arithmetic leaves the range of floats end in the same error, not in zeros") {
  auto bytes = krul::testing::tiny_model();
  const auto scale = [&](const std::string& name, float factor) {
    const auto file = GgufFile::from_memory(bytes, "tiny.gguf").value();
    const auto data = file.find(name)->data;
    const auto at = static_cast<std::size_t>(data.data() - bytes.data());
    for (std::size_t i = 0; i < data.size(); i += sizeof(float)) {
      float value;
      std::memcpy(&value, bytes.data() + at + i, sizeof value);
      value *= factor;
      std::memcpy(bytes.data() + at + i, &value, sizeof value);
    }
  };
  const std::vector<Token> tokens{0, 5, 7, 9};
  const auto logits_of = [&](Precision precision) {
    std::vector<float> logits;
    auto kernels = AnyKernels::choose(KernelChoice::krul, precision);
    if (!kernels) return logits;  // not on this processor
    auto model = CpuBackend<AnyKernels>::load(GgufFile::from_memory(bytes, "tiny.gguf").value(), std::move(*kernels),
                                              {.threads = 2});
    REQUIRE(model);
    auto cache = model->make_cache(tokens.size());
    auto batch = model->make_batch();
    logits.resize(model->geometry().vocabulary);
    forward(*model, cache, batch, tokens, logits);
    return logits;
  };
  const auto check = [&](const auto& expectation) {
    for (const auto precision : {Precision::f32, Precision::bf16, Precision::int8}) {
      CAPTURE(krul::name(precision));
      expectation(precision);
    }
  };
  // Rows of 1e30 have squares beyond all floats, and are rows all the same.
  scale("token_embd.weight", 1e30F);
  check([&](Precision precision) {
    const auto logits = logits_of(precision);
    CHECK((logits.empty() || std::ranges::any_of(logits, [](float logit) { return logit != 0; })));
  });
  scale("blk.1.ffn_gate.weight", 1e30F);
  scale("blk.1.ffn_down.weight", 1e36F);
  check([&](Precision precision) {
    if (AnyKernels::choose(KernelChoice::krul, precision)) CHECK_THROWS_AS((void)logits_of(precision), NotFiniteError);
  });
}
