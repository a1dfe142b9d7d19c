// A model on a device that is there: what the tests beside this folder say of the host's.
#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>

#include "conformance/backend_suite.hpp"
#include "cuda/model/agreement.hpp"
#include "krul/cuda/cuda_model.hpp"
#include "krul/cuda/devices.hpp"
#include "support/tiny_model.hpp"

using namespace krul;
using cuda::CudaModel;

namespace {

constexpr ElementType types[] = {ElementType::f32, ElementType::f16, ElementType::bf16};

bool there_is_a_device() {
  const auto found = cuda::devices();
  if (found && !found->empty()) return true;
  MESSAGE("skipped: " << (found ? "there is no CUDA device" : found.error().message));
  return false;
}

}  // namespace

TEST_CASE("a model on a CUDA device conforms with every architecture, arithmetic and cache type") {
  if (!there_is_a_device()) return;
  for (const char* architecture : {"llama", "qwen2"}) {
    const auto bytes = krul::testing::tiny_model({.architecture = architecture});
    for (std::size_t i = 0; i < 3; ++i)
      for (const std::size_t apart : {0U, 1U}) {
        const ElementType cache_type = types[(i + apart) % 3], arithmetic = types[i];
        CAPTURE(architecture);
        CAPTURE(name(cache_type));
        CAPTURE(name(arithmetic));
        auto model = CudaModel::load(GgufFile::from_memory(bytes, "tiny.gguf").value(),
                                     {.arithmetic = arithmetic, .cache_type = cache_type});
        REQUIRE_MESSAGE(model.has_value(), model.error().message);
        // Attention rounds queries and weights to the cache's type.
        const auto rougher = unit_roundoff(arithmetic) > unit_roundoff(cache_type) ? arithmetic : cache_type;
        krul::test::require_conformance(krul::check_backend(*model, {.tokens = 80, .compute_type = rougher}));
      }
  }
}

TEST_CASE("logits of a CUDA device are the processor's, within what backends may differ by") {
  if (!there_is_a_device()) return;
  for (const char* architecture : {"llama", "qwen2"})
    for (const ElementType type : types) {
      CAPTURE(architecture);
      CAPTURE(name(type));
      const auto bytes = krul::testing::tiny_model({.architecture = architecture});
      const auto file = [&] { return GgufFile::from_memory(bytes, "tiny.gguf").value(); };
      auto model = CudaModel::load(file(), {.arithmetic = type, .cache_type = type});
      REQUIRE_MESSAGE(model.has_value(), model.error().message);
      auto processor = cuda::test::on_processor(file(), type);
      const double found = cuda::test::disagreement(*model, processor, type);
      MESSAGE(architecture << " " << name(type) << ": " << found << " of what is allowed");
      CHECK(found <= 1);
    }
}

TEST_CASE("a real model says on a CUDA device what it says on the processor") {
  if (!there_is_a_device()) return;
  const char* folder = std::getenv("KRUL_MODELS");
  for (const char* name : {"SmolLM2-135M-Instruct.Q4_1.gguf", "Qwen2.5-Coder-0.5B-Instruct.gguf"}) {
    CAPTURE(name);
    const auto path = std::filesystem::path(folder == nullptr ? "" : folder) / name;
    if (folder == nullptr || !std::filesystem::exists(path)) {
      MESSAGE("skipped: set KRUL_MODELS to a folder with " << name);
      continue;
    }
    auto model =
        CudaModel::load(GgufFile::open(path).value(), {.arithmetic = ElementType::f32, .cache_type = ElementType::f32});
    REQUIRE_MESSAGE(model.has_value(), model.error().message);
    auto processor = cuda::test::on_processor(GgufFile::open(path).value(), ElementType::f32);
    const auto prompt = cuda::test::random_tokens(40, 1000);
    CHECK(cuda::test::greedy_text(*model, prompt, 24) == cuda::test::greedy_text(processor, prompt, 24));
  }
}
