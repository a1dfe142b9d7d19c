#include "krul/model/cpu_backend.hpp"

#include "conformance/backend_suite.hpp"
#include "support/tiny_model.hpp"

using namespace krul;

TEST_CASE("the CPU backend conforms with every kernel, architecture and cache type") {
  for (const std::string architecture : {"llama", "qwen2"}) {
    const auto bytes = krul::testing::tiny_model({.architecture = architecture, .layers = 3});
    for (const auto choice : {KernelChoice::eigen, KernelChoice::onednn, KernelChoice::krul})
      for (const auto type : {ElementType::f32, ElementType::f16, ElementType::bf16}) {
        auto kernels = AnyKernels::choose(choice, std::nullopt);
        if (!kernels) continue;  // a build without oneDNN
        // Rows of int8 keep their bits in any batch, so no more has to be allowed for them.
        const auto compute_type = kernels->precision() == Precision::bf16 ? ElementType::bf16 : ElementType::f32;
        auto file = GgufFile::from_memory(bytes, "tiny.gguf");
        REQUIRE(file);
        auto model = CpuBackend<AnyKernels>::load(std::move(*file), *kernels,
                                                  {.threads = 2, .cache_type = type, .tokenizer = "tiny"});
        REQUIRE(model);
        CAPTURE(architecture);
        CAPTURE(model->identity().kernels);
        CAPTURE(name(type));
        krul::test::require_conformance(krul::check_backend(*model, {.compute_type = compute_type}));
      }
  }
}
