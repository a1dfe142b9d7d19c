#include "krul/simulate/pass_work.hpp"

#include <doctest/doctest.h>

#include "krul/simulate/device_costs.hpp"

using namespace krul;
using namespace krul::simulate;

TEST_CASE("a pass is counted by hand") {
  // Two layers of width 4, 2 query heads and 1 KV head of 2, inner width 8, 10 words.
  const ModelShape shape{"tiny", 2, 4, 2, 1, 2, 8, 10, 2};
  const PassSize pass{.history = 5, .rows = 3};
  CHECK(pass.pairs() == 6 + 7 + 8);
  CHECK(pass.keys() == 8);
  const PassWork layers = PassWork::of_layers(shape, pass, 1), all = PassWork::of(shape, pass);
  CHECK(layers.matrix_flops == 2 * (32 + 112) * 3);
  CHECK(layers.attention_flops == 4 * 4 * 21);
  CHECK(layers.bytes == (32 + 112) * 2 + 8 * 8);
  CHECK(all.matrix_flops == 2 * layers.matrix_flops + 2 * 40);
  CHECK(all.attention_flops == 2 * layers.attention_flops);
  CHECK(all.bytes == 2 * layers.bytes + 80);
  CHECK(all.flops() == all.matrix_flops + all.attention_flops);
}

TEST_CASE("a prefill is bound by FLOP and a token by bytes") {
  const ModelShape& shape = *model_shape("llama-7b");
  Hardware hardware;
  REQUIRE(find_hardware("a100-pcie4", hardware));
  const PassWork prefill = PassWork::of(shape, {0, 4096}), token = PassWork::of(shape, {128, 1});
  CHECK(least_pass_s(prefill, hardware.accelerator) == doctest::Approx(prefill.flops() / 312e12));
  CHECK(least_pass_s(token, hardware.accelerator) == doctest::Approx(token.bytes / 2.039e12));
  // 6.5 billion weights in the layers, two bytes each: 13 GB, and half a MiB for each key.
  CHECK(token.bytes == doctest::Approx(13.28e9).epsilon(0.01));
}

TEST_CASE("seconds under costs are those of their parts, and of the same count") {
  Costs costs;
  costs.layer = {.call_s = 1, .project_row_s = 2, .finish_row_s = 3, .attend_pair_s = 5, .attend_key_s = 7};
  costs.pass_s = 11;
  CHECK(pass_s(costs, 2, {.history = 5, .rows = 3}) == 11 + 2 * (1 + 3 * 5 + 21 * 5 + 8 * 7));
  const ModelShape& shape = *model_shape("qwen2.5-7b");
  Hardware hardware;
  REQUIRE(find_hardware("h100-pcie5", hardware));
  const PassSize pass{.history = 100, .rows = 1000};
  const PassWork work = PassWork::of(shape, pass), layers = PassWork::of_layers(shape, pass, shape.layers);
  const Accelerator& device = hardware.accelerator;
  CHECK(pass_s(device_costs(shape, hardware), shape.layers, pass) ==
        doctest::Approx(layers.matrix_flops / device.matrix_flops() + work.attention_flops / device.attention_flops() +
                        work.bytes / device.memory_bytes_per_s));
}
