#include "krul/simulate/device_costs.hpp"

#include <doctest/doctest.h>

#include <tuple>

using namespace krul;
using namespace krul::simulate;

TEST_CASE("shapes: bytes of a token and of all weights, by hand") {
  const ModelShape& llama = *model_shape("llama-7b");
  CHECK(llama.row_bytes() == 16384);
  CHECK(llama.token_bytes() == 512 * 1024);                                  // half a MiB a token
  CHECK(llama.model_bytes() / 2e9 == doctest::Approx(6.74).epsilon(0.001));  // 6.74 billion weights
  CHECK(model_shape("llama-30b")->model_bytes() / 2e9 == doctest::Approx(32.5).epsilon(0.001));
  CHECK(model_shape("qwen1.5-7b")->model_bytes() / 2e9 == doctest::Approx(7.72).epsilon(0.001));
  CHECK(model_shape("qwen2-72b")->model_bytes() / 1e9 == doctest::Approx(72.7).epsilon(0.001));
  CHECK(model_shape("qwen2-72b")->token_bytes() == 327680);
  CHECK(model_shape("smollm2-135m")->token_bytes() == 23040);
  CHECK(model_shape("qwen2.5-coder-0.5b")->token_bytes() == 12288);
  CHECK(model_shape("llama-3-8b")->model_bytes() / 2e9 == doctest::Approx(8.03).epsilon(0.001));
  CHECK(model_shape("llama-3-8b")->token_bytes() == 131072);
  CHECK(model_shape("qwen2.5-7b")->model_bytes() / 2e9 == doctest::Approx(7.62).epsilon(0.001));
  CHECK(model_shape("qwen2.5-7b")->token_bytes() == 57344);
  CHECK(model_shape("gpt-5") == nullptr);
}

TEST_CASE("hardware: an accelerator and a link, or nothing") {
  Hardware hardware;
  CHECK(find_hardware("a100-pcie4", hardware));
  CHECK(hardware.accelerator.peak_flops == 312e12);
  CHECK(hardware.link.bytes_per_s == 26e9);
  CHECK(find_hardware("h200-pcie5", hardware));
  CHECK(hardware.accelerator.memory_bytes_per_s == 4.8e12);
  CHECK(find_hardware("h100-10gbit", hardware));
  CHECK(hardware.link.bytes_per_s == 1.25e9);
  for (const char* name : {"", "a100", "a100-", "-pcie4", "a100_pcie4", "a100-pcie44", "a100-100", "b100-pcie4"}) {
    CHECK_FALSE(find_hardware(name, hardware));
    CHECK(hardware.link.bytes_per_s == 1.25e9);
  }
}

TEST_CASE("the achieved shares give back the measurement that they were taken from") {
  // 512 tokens at positions 0 and 32,256 of a 7B model: 39 and 112 ms on an A100, 27 and 94 ms on an H100. The shares
  // have two digits, and weights are read besides: a tenth.
  for (const auto& [name, first_ms, last_ms] :
       {std::tuple{"a100-pcie4", 39.0, 112.0}, std::tuple{"h100-pcie5", 27.0, 94.0}}) {
    Hardware hardware;
    REQUIRE(find_hardware(name, hardware));
    const LayerCosts cost = device_costs(*model_shape("llama-7b"), hardware).layer;
    const double rows_s = 32 * 512 * (cost.project_row_s + cost.finish_row_s);
    CHECK(rows_s * 1e3 == doctest::Approx(first_ms).epsilon(0.1));
    CHECK(rows_s * 1e3 + 32 * 512 * 32256 * cost.attend_pair_s * 1e3 == doctest::Approx(last_ms).epsilon(0.1));
  }
}

TEST_CASE("costs are FLOP over FLOP/s and bytes over bytes/s, by hand") {
  // Two layers of width 4, 2 query heads and 1 KV head of 2, inner width 8, 10 words.
  const ModelShape shape{"tiny", 2, 4, 2, 1, 2, 8, 10, 2};
  CHECK(shape.projection_weights() == 4 * 8);
  CHECK(shape.finish_weights() == 4 * 4 + 3 * 4 * 8);
  const Hardware hardware{{"", 1000, 0.5, 0.25, 100, 0, 20}, {0.125, 64, 0}};
  const Costs costs = device_costs(shape, hardware);
  CHECK(costs.layer.call_s == doctest::Approx((32 + 112) * 2 / 100.0));
  CHECK(costs.layer.project_row_s == doctest::Approx(2 * 32 / 500.0));
  CHECK(costs.layer.finish_row_s == doctest::Approx(2 * 112 / 500.0));
  CHECK(costs.layer.attend_pair_s == doctest::Approx(4 * 4 / 250.0));
  CHECK(costs.layer.attend_key_s == doctest::Approx(2 * 2 * 2 / 100.0));
  CHECK(costs.layer.decode_row_s == 0);
  CHECK(costs.pass_s == doctest::Approx(10 * 4 * 2 / 100.0));
  CHECK(costs.link.latency_s == 0.125);
  CHECK(costs.link.bytes_per_s == 64);
  // Four values a row: read 4 bytes and write 8, a basis of 3, a coder of 20 values a second.
  CHECK(decode_row_s({"", 2, 3, true}, shape, hardware.accelerator) ==
        doctest::Approx(12 / 100.0 + 4 * 2 * 3 / 500.0 + 4 / 20.0));
  CHECK(decode_row_s({"", 2, 0, false}, shape, hardware.accelerator) == doctest::Approx(12 / 100.0));
}

TEST_CASE("what the weights leave of nine tenths of an accelerator's memory") {
  const ModelShape shape{"tiny", 2, 4, 2, 1, 2, 8, 10, 2};
  CHECK(free_bytes({.name = "", .memory_bytes = 1000}, shape) == doctest::Approx(900 - shape.model_bytes()));
  CHECK(free_bytes({.name = "", .memory_bytes = 1}, shape) == 0);
}
