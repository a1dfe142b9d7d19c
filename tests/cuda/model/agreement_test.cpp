// What tests on a device ask of it, asked of a device on the host.
#include "cuda/model/agreement.hpp"

#include <doctest/doctest.h>

#include "cuda/ordered_device.hpp"
#include "krul/cuda/device_backend.hpp"
#include "support/tiny_model.hpp"

namespace krul::cuda::test::agreement {

TEST_CASE("logits of a device are the processor's, within what backends may differ by") {
  double worst = 0;
  for (const char* architecture : {"llama", "qwen2"})
    for (const auto cache_type : {ElementType::f32, ElementType::f16, ElementType::bf16})
      for (const auto type : {ElementType::f32, ElementType::f16, ElementType::bf16}) {
        CAPTURE(architecture);
        CAPTURE(name(cache_type));
        CAPTURE(name(type));
        const auto bytes = krul::testing::tiny_model({.architecture = architecture});
        const auto file = [&] { return GgufFile::from_memory(bytes, "tiny.gguf").value(); };
        OrderedDevice device(5);
        using Products = cuda::KernelProducts<OrderedDevice>;
        auto model = cuda::DeviceBackend<OrderedDevice, Products>::load(
            file(), device, device.make_stream().value(), Products(device, type), {.cache_type = cache_type});
        REQUIRE(model);
        auto processor = cuda::test::on_processor(file(), cache_type);
        const double found = cuda::test::disagreement(*model, processor, type);
        CHECK(found <= 1);
        worst = std::max(worst, found);
        if (type != ElementType::f32 || cache_type != ElementType::f32) continue;
        const auto prompt = cuda::test::random_tokens(20, model->geometry().vocabulary);
        CHECK(cuda::test::greedy_text(*model, prompt, 12) == cuda::test::greedy_text(processor, prompt, 12));
      }
  MESSAGE("off by at most " << worst << " of what is allowed");
}

}  // namespace krul::cuda::test::agreement
